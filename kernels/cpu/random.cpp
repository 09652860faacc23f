#include "kernels/cpu/random.h"

#include <cstring>

#include "kernels/cpu/philox.h"

namespace trident::cpu {

void few_words(const RandomKey& key, uint64_t block, uint32_t* out) {
  if (same_upper_half(block, block + kFewWords / 4 - 1)) {
    VecU words[kFewWords / kLanes];
    philox_words<2>(key, block, words);
    std::memcpy(out, words, sizeof words);
  } else {
    for (uint64_t i = 0; i < kFewWords; ++i) out[i] = random_u32(key, 4 * block + i);
  }
}

void random_words(const RandomKey& key, uint64_t first, int64_t count, uint32_t* out) {
  for_words(key, first, count, [=](int64_t i, VecU words, auto lanes) {
    store(reinterpret_cast<float*>(out) + i, (VecF)words, lanes);  // moves the bits
  });
}

void dropout_factors(const RandomKey& key, uint64_t first, int64_t count, float p, float* out) {
  const DropoutFactor factor(p);
  for_words(key, first, count, [=](int64_t i, VecU words, auto lanes) { store(out + i, factor.of(words), lanes); });
}

}  // namespace trident::cpu
