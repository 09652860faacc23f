// Dropout on the device, and the residual's formula x + dropout(z) in one place: every operation that joins a residual
// gives the same bits, however the compiler contracts products and sums elsewhere.
#pragma once

#include "kernels/cuda/element.h"
#include "kernels/cuda/random.h"
#include "kernels/ops.h"

namespace trident::cuda {

/// A DropoutSpec as a kernel takes it, for a tensor of `columns` columns.
struct Dropout {
  RandomKey key;
  uint64_t first_word;  ///< of element (0, 0)
  float p, keep;        ///< keep = 1 / (1 - p)
};
inline Dropout make_dropout(const DropoutSpec& spec, int64_t columns) {
  return {spec.key, static_cast<uint64_t>(spec.first_row) * static_cast<uint64_t>(columns), spec.p,
          1.0f / (1.0f - spec.p)};
}

/// The factors of kWidth elements from `element` (row * columns + column) on; 1 without dropout. kWidth is 1, or a
/// multiple of 4 when the first word is one.
template <int kWidth>
SIMT_DEV Pack<float, kWidth> dropout_factors(const Dropout& drop, int64_t element) {
  Pack<float, kWidth> factor;
  if (drop.p > 0) {
    uint32_t word[kWidth];
    random_words(drop.key, drop.first_word + static_cast<uint64_t>(element), word);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) factor.value[j] = uniform01(word[j]) >= drop.p ? drop.keep : 0.0f;
  } else {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) factor.value[j] = 1.0f;
  }
  return factor;
}

/// stream + addend * factor, rounded once.
SIMT_DEV float residual_sum(float stream, float addend, float factor) { return fmaf(addend, factor, stream); }

}  // namespace trident::cuda
