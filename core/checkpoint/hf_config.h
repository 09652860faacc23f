// config.json of a HuggingFace model <-> our model section. What our modules don't compute exactly is refused by name,
// never approximated. Source: the configuration classes of transformers 4 and 5 (both spellings are read, both
// written).
#pragma once

#include <string>
#include <string_view>

#include "core/base/dtype.h"
#include "core/config/config.h"

namespace trident {

/// A HuggingFace model as our config says it: every field of `model` is resolved.
struct HfModel {
  ModelConfig model;
  Precision precision = Precision::fp32;  ///< fp32 when the weights are float32, else bf16
};

/// Parses the text of a config.json of model_type gpt2 or llama. Keys that are absent have transformers' defaults,
/// sizes must be there. Throws UserError with `path`, the key, its value and what would work.
HfModel parse_hf_config(std::string_view text, const std::string& path);

/// The text of a config.json for weights of type `weights` (f32 or bf16), which transformers 4 and 5 read. Throws
/// UserError naming the first option that the HuggingFace class of `model.arch` does not have.
std::string hf_config_text(const ModelConfig& model, DType weights);

}  // namespace trident
