#include "core/config/preset.h"

#include <algorithm>

namespace trident {

namespace {

/// The options that make the family.
void preset_arch(ModelConfig& model, const IsSet& is_set) {
  const bool gpt2 = model.arch == Arch::gpt2;
  if (!is_set("model.norm")) model.norm = gpt2 ? Norm::layer_norm : Norm::rms_norm;
  if (!is_set("model.activation")) model.activation = gpt2 ? Activation::gelu : Activation::swiglu;
  if (!is_set("model.position")) model.position = gpt2 ? Position::learned : Position::rope;
  if (!is_set("model.bias")) model.bias = gpt2;
  if (!is_set("model.tie_embeddings")) model.tie_embeddings = gpt2;
}

/// 4 x hidden; a gated block has three matrices instead of two, so 2/3 of that keeps its size (Shazeer, "GLU variants
/// improve transformer", 2020), rounded up to a multiple of 64 for the sake of the GEMMs and of tensor parallelism.
int64_t default_ffn_hidden(const ModelConfig& model) {
  if (model.activation != Activation::swiglu) return 4 * model.hidden;
  const int64_t two_thirds = (8 * model.hidden + 2) / 3;
  return (two_thirds + 63) / 64 * 64;
}

void derive_model(ModelConfig& model) {
  if (model.kv_heads == 0) model.kv_heads = model.heads;
  // Left at 0 when hidden does not divide: validate names it.
  if (model.head_dim == 0 && model.heads > 0 && model.hidden % model.heads == 0) {
    model.head_dim = model.hidden / model.heads;
  }
  if (model.ffn_hidden == 0) model.ffn_hidden = default_ffn_hidden(model);
  if (model.max_positions == 0) model.max_positions = model.context;
}

/// What the other axes leave of the ranks, rounded down and at least 1: validate compares the product with the ranks.
int derive_data(const ParallelConfig& parallel, int ranks) {
  const int64_t others = int64_t{parallel.pipeline} * parallel.tensor * parallel.context;
  return static_cast<int>(std::max<int64_t>(1, others > 0 ? ranks / others : 1));
}

}  // namespace

void resolve(Config& config, const IsSet& is_set, int ranks) {
  preset_arch(config.model, is_set);
  derive_model(config.model);
  if (config.parallel.data == 0) config.parallel.data = derive_data(config.parallel, ranks);
  // A constant rate has no decay, so there its length stays auto.
  if (config.optimizer.decay_steps == 0 && config.optimizer.schedule != LrSchedule::constant) {
    config.optimizer.decay_steps = config.train.steps;
  }
  if (config.out.empty()) config.out = "runs/" + config.name;
}

void resolve(Config& config, int ranks) {
  resolve(
      config, [](std::string_view) { return true; }, ranks);
}

}  // namespace trident
