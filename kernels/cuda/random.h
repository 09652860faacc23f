// Words of core/base/rng.h's Philox on the device: one block of the counter serves four consecutive elements.
#pragma once

#include "core/base/rng.h"
#include "kernels/cuda/cuda.h"

namespace trident::cuda {

/// words[j] = word first + j of `key`. kCount is 1, or a multiple of 4 with `first` a multiple of 4.
template <int kCount>
SIMT_DEV void random_words(const RandomKey& key, uint64_t first, uint32_t (&words)[kCount]) {
  static_assert(kCount == 1 || kCount % 4 == 0);
  if constexpr (kCount == 1) {
    // Chosen by comparing: an index known only at run time would put the block into local memory.
    const auto block = philox(key, first / 4);
    const uint32_t low = first % 2 == 0 ? block[0] : block[1], high = first % 2 == 0 ? block[2] : block[3];
    words[0] = first % 4 < 2 ? low : high;
  } else {
#pragma unroll
    for (int b = 0; b < kCount / 4; ++b) {
      const auto block = philox(key, first / 4 + b);
#pragma unroll
      for (int j = 0; j < 4; ++j) words[4 * b + j] = block[j];
    }
  }
}

}  // namespace trident::cuda
