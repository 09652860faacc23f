#include "kernels/cpu/random.h"

#include <algorithm>

namespace trident::cpu {
namespace {

constexpr int kBlocks = 16;  // Philox blocks computed side by side

/// The 4 * kBlocks words of blocks [block, block + kBlocks), in order.
void philox_words(const RandomKey& key, uint64_t block, uint32_t* out) {
  uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int i = 0; i < kBlocks; ++i) {
    const uint64_t b = block + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(b);
    c1[i] = static_cast<uint32_t>(b >> 32);
    c2[i] = key.step;
    c3[i] = key.purpose;
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int i = 0; i < kBlocks; ++i) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0[i], p1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
      c1[i] = static_cast<uint32_t>(p1);
      c2[i] = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c3[i] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kBlocks; ++i) {
    out[4 * i] = c0[i];
    out[4 * i + 1] = c1[i];
    out[4 * i + 2] = c2[i];
    out[4 * i + 3] = c3[i];
  }
}

}  // namespace

void dropout_factors(const RandomKey& key, uint64_t first, int64_t count, float p, float* out) {
  const float keep = 1.0f / (1.0f - p);
  uint32_t words[4 * kBlocks];
  int64_t skip = static_cast<int64_t>(first % 4);  // words of the first block that lie before `first`
  for (int64_t done = 0; done < count; skip = 0) {
    philox_words(key, (first + static_cast<uint64_t>(done)) / 4, words);
    const int64_t n = std::min<int64_t>(4 * kBlocks - skip, count - done);
    for (int64_t i = 0; i < n; ++i) {
      const float u = static_cast<float>(static_cast<int32_t>(words[skip + i] >> 8)) * 0x1p-24f;
      out[done + i] = u >= p ? keep : 0.0f;
    }
    done += n;
  }
}

}  // namespace trident::cpu
