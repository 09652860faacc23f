// Random words and dropout factors in memory, many at a time: the words of core/base/rng.h's Philox. What uses them at
// once calls for_words (kernels/cpu/philox.h).
#pragma once

#include <cstdint>

#include "core/base/rng.h"

namespace trident::cpu {

/// out[i] = 0 when uniform01(word first + i of key) < p, else 1 / (1 - p), for i < count. p in [0, 1).
void dropout_factors(const RandomKey& key, uint64_t first, int64_t count, float p, float* out);

/// out[i] = word first + i of key, for i < count.
void random_words(const RandomKey& key, uint64_t first, int64_t count, uint32_t* out);

}  // namespace trident::cpu
