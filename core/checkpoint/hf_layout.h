// Which HuggingFace tensor holds which of our logical parameters, and how it lies there. Import and export both follow
// this one table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/model_config.h"

namespace trident {

/// A logical parameter inside a HuggingFace tensor: its `rows` output rows lie behind those of the parts before it.
struct HfPart {
  std::string name;  ///< "layers.0.attn.k.weight"
  int64_t rows = 0;
};

/// A tensor of a HuggingFace checkpoint. Our weights are [out, in]; GPT-2's Conv1D stores [in, out], so that the rows
/// of a part are columns on disk.
struct HfTensor {
  std::string name;                 ///< "transformer.h.0.attn.c_attn.weight"
  std::vector<int64_t> shape = {};  ///< on disk
  bool conv1d = false;
  std::vector<HfPart> parts = {};

  /// Global shape of a part as a logical parameter.
  std::vector<int64_t> part_shape(const HfPart& part) const;
};

/// Every tensor that save_pretrained writes for this model, in the order of the forward pass. Tied: no lm_head.weight.
/// Throws InternalError for an arch without a HuggingFace layout here.
std::vector<HfTensor> hf_layout(const ModelConfig& model);

/// What the base model's tensors begin with ("transformer." or "model."); files saved from the model without its head
/// lack it.
std::string hf_prefix(Arch arch);

/// True for what older files hold besides parameters: causal masks and rotary tables, computed here.
bool is_hf_buffer(const std::string& name);

}  // namespace trident
