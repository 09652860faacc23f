#include "kernels/cpu/random.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

// One Philox block per 64-bit lane: its 32-bit words sit in the lower halves, so that a lane's product is one
// instruction. What the upper halves hold never matters.
constexpr int kLanes64 = kLanes / 2;
typedef uint64_t VecU64 __attribute__((vector_size(8 * kLanes64)));
constexpr int kVectors = 2;  // independent chains, to hide the multiplier's latency
constexpr int kBlocks = kVectors * kLanes64;

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

/// The 4 * kBlocks words of blocks [block, block + kBlocks), in order.
void philox_words(const RandomKey& key, uint64_t block, uint32_t* out) {
  VecU64 c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    uint64_t numbers[kLanes64];
    for (int lane = 0; lane < kLanes64; ++lane) numbers[lane] = block + static_cast<uint64_t>(v * kLanes64 + lane);
    std::memcpy(&c0[v], numbers, sizeof numbers);
    c1[v] = c0[v] >> 32;
    c2[v] = VecU64{} + key.step;
    c3[v] = VecU64{} + key.purpose;
  }
  uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int v = 0; v < kVectors; ++v) {
      const VecU64 p0 = multiply(c0[v], 0xD2511F53u), p1 = multiply(c2[v], 0xCD9E8D57u);
      c0[v] = (p1 >> 32) ^ c1[v] ^ k0;
      c1[v] = p1;
      c2[v] = (p0 >> 32) ^ c3[v] ^ k1;
      c3[v] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int v = 0; v < kVectors; ++v) {
    const VecU64 low = (c0[v] & 0xffffffffu) | c1[v] << 32, high = (c2[v] & 0xffffffffu) | c3[v] << 32;
    for (int lane = 0; lane < kLanes64; ++lane) {
      const uint64_t words[2] = {low[lane], high[lane]};
      std::memcpy(out + 4 * (v * kLanes64 + lane), words, sizeof words);
    }
  }
}

/// Calls body(i, word first + i of key) for i < count.
template <class Body>
void for_words(const RandomKey& key, uint64_t first, int64_t count, Body body) {
  uint32_t words[4 * kBlocks];
  int64_t skip = static_cast<int64_t>(first % 4);  // words of the first block that lie before `first`
  for (int64_t done = 0; done < count; skip = 0) {
    philox_words(key, (first + static_cast<uint64_t>(done)) / 4, words);
    const int64_t n = std::min<int64_t>(4 * kBlocks - skip, count - done);
    for (int64_t i = 0; i < n; ++i) body(done + i, words[skip + i]);
    done += n;
  }
}

}  // namespace

void dropout_factors(const RandomKey& key, uint64_t first, int64_t count, float p, float* out) {
  const float keep = 1.0f / (1.0f - p);
  for_words(key, first, count, [&](int64_t i, uint32_t word) {
    const float u = static_cast<float>(static_cast<int32_t>(word >> 8)) * 0x1p-24f;
    out[i] = u >= p ? keep : 0.0f;
  });
}

void random_words(const RandomKey& key, uint64_t first, int64_t count, uint32_t* out) {
  for_words(key, first, count, [&](int64_t i, uint32_t word) { out[i] = word; });
}

}  // namespace trident::cpu
