// Philox (core/base/rng.h) on vectors, one block per 64-bit lane. For the kernels that draw random words.
#pragma once

#include "core/base/rng.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {

// A block's 32-bit words sit in the lower halves of their lanes, so that a lane's product is one instruction. What the
// upper halves hold never matters.
inline constexpr int kLanes64 = kLanes / 2;
typedef uint64_t VecU64 __attribute__((vector_size(8 * kLanes64)));

/// Lower half of x times m, all 64 bits.
inline VecU64 multiply(VecU64 x, uint64_t m) {
#if defined(__AVX512F__)
  return (VecU64)_mm512_maskz_mul_epu32(0xff, (__m512i)x, _mm512_set1_epi64(static_cast<int64_t>(m)));
#elif defined(__AVX2__)
  return (VecU64)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(static_cast<int64_t>(m)));
#else
  return (x & 0xffffffffu) * m;
#endif
}

/// word[w][v] = word w of the blocks numbered block[v]. Several vectors are independent chains that hide the
/// multiplier's latency.
template <int vectors>
inline void philox_blocks(const RandomKey& key, const VecU64 (&block)[vectors], VecU64 (&word)[4][vectors]) {
  for (int v = 0; v < vectors; ++v) {
    word[0][v] = block[v];
    word[1][v] = block[v] >> 32;
    word[2][v] = VecU64{} + key.step;
    word[3][v] = VecU64{} + key.purpose;
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    for (int v = 0; v < vectors; ++v) {
      const VecU64 p0 = multiply(word[0][v], 0xD2511F53u), p1 = multiply(word[2][v], 0xCD9E8D57u);
      word[0][v] = (p1 >> 32) ^ word[1][v] ^ k0;
      word[1][v] = p1;
      word[2][v] = (p0 >> 32) ^ word[3][v] ^ k1;
      word[3][v] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

}  // namespace trident::cpu
