// HuggingFace directories (config.json and safetensors, as save_pretrained writes them) <-> our checkpoints, for GPT-2
// and Llama. Tensors pass through one by one in blocks: memory does not grow with the model.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/dtype.h"
#include "core/checkpoint/hf_config.h"

namespace trident {

/// Elements that pass through memory at a time, as f32: 64 MiB. A single row of a tensor is never divided.
constexpr int64_t kHfBlockElements = int64_t{16} << 20;

/// Reads HF_DIR/config.json. Throws UserError.
HfModel read_hf_model(const std::string& hf_dir);

/// Writes CHECKPOINT_DIR/step-00000000: the weights as f32 "model.<name>", and a resolved config with the model's
/// section, tokenizer `none` and defaults elsewhere. Reads single or sharded weights of f32, f16, bf16 or f64, with or
/// without the prefix of the full model. Returns the checkpoint's path. Throws UserError naming tensor or key, value
/// and remedy: what Trident doesn't compute (see hf_config.h), tensors that are missing, unknown or of another shape, a
/// head that differs from the embedding it is tied to, a CHECKPOINT_DIR that holds checkpoints already. RunError when
/// the disk refuses.
std::string import_huggingface(const std::string& hf_dir, const std::string& checkpoint_dir,
                               int64_t block_elements = kHfBlockElements);

struct HfExportOptions {
  DType dtype = DType::f32;                   ///< of the weights on disk: f32 or bf16
  int64_t block_elements = kHfBlockElements;  ///< in memory at a time
  uint64_t max_shard_bytes = 5'000'000'000u;  ///< of tensors in one file; a larger tensor has a file of its own
};

/// Writes config.json and model.safetensors (or numbered shards and their index) into HF_DIR, which appears complete or
/// not at all. `checkpoint` is a checkpoint or a directory of them (the newest), of any grid, with or without
/// optimizer. Throws UserError naming the option or tensor that HuggingFace's class lacks, or when HF_DIR exists and is
/// not empty; RunError when the disk refuses.
void export_huggingface(const std::string& checkpoint, const std::string& hf_dir, const HfExportOptions& options = {});

}  // namespace trident
