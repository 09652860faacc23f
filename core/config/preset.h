// Presets: what a config does not say follows from `model.arch` and from the other keys.
#pragma once

#include <functional>
#include <string_view>

#include "core/config/config.h"

namespace trident {

/// Tells whether the user set the key ("model.norm"); such keys are never overwritten.
using IsSet = std::function<bool(std::string_view key)>;

/// Fills in what is not set: the arch's options (norm, activation, position, bias, tie_embeddings), and every
/// number that is 0 for "derive it" (kv_heads, head_dim, ffn_hidden, max_positions, parallel.data, decay_steps, out).
/// `ranks` is the size of the world, or 0 when it is not known: then parallel.data: auto becomes 1. Total: it never
/// throws and never divides by zero; illegal configs come out illegal, for `validate` to name.
void resolve(Config& config, const IsSet& is_set, int ranks);

/// The same for a config made in C++: every model option counts as set, only the zeros are derived.
void resolve(Config& config, int ranks);

}  // namespace trident
