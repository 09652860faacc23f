// Philox (core/base/rng.h) on vectors, one block per 64-bit lane. For the kernels that draw random words.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

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
#else
  return (VecU64)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(static_cast<int64_t>(m)));
#endif
}

/// The keys of the ten rounds.
struct PhiloxKeys {
  constexpr explicit PhiloxKeys(const RandomKey& key) {
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
      first[round] = k0, second[round] = k1;
  }

  uint64_t first[10], second[10];
};

inline constexpr uint64_t kPhiloxFirst = 0xD2511F53u, kPhiloxSecond = 0xCD9E8D57u;

/// The first `rounds` rounds on blocks whose words are word[w][v]. Several vectors are independent chains that hide the
/// multiplier's latency.
template <int rounds, int vectors>
inline void philox_rounds(const PhiloxKeys& keys, VecU64 (&word)[4][vectors]) {
#pragma GCC unroll 10
  for (int round = 0; round < rounds; ++round) {
    for (int v = 0; v < vectors; ++v) {
      const VecU64 p0 = multiply(word[0][v], kPhiloxFirst), p1 = multiply(word[2][v], kPhiloxSecond);
      word[0][v] = (p1 >> 32) ^ word[1][v] ^ keys.first[round];
      word[1][v] = p1;
      word[2][v] = (p0 >> 32) ^ word[3][v] ^ keys.second[round];
      word[3][v] = p0;
    }
  }
}

/// word[w][v] = word w of the blocks numbered block[v].
template <int vectors>
inline void philox_blocks(const RandomKey& key, const VecU64 (&block)[vectors], VecU64 (&word)[4][vectors]) {
  for (int v = 0; v < vectors; ++v) {
    word[0][v] = block[v];
    word[1][v] = block[v] >> 32;
    word[2][v] = VecU64{} + key.step;
    word[3][v] = VecU64{} + key.purpose;
  }
  philox_rounds<10>(PhiloxKeys(key), word);
}

/// Whether the blocks from `block` to `last` agree in the upper halves of their numbers.
inline bool same_upper_half(uint64_t block, uint64_t last) { return block >> 32 == last >> 32; }

/// words = all words of vectors * kLanes64 blocks from `block` on, in order. These blocks agree in the upper halves of
/// their numbers: what the first two rounds make of those is then one product for all of them.
template <int vectors>
inline void philox_words(const RandomKey& key, uint64_t block, VecU (&words)[2 * vectors]) {
  VecU64 word[4][vectors], lanes = {};
  for (int lane = 0; lane < kLanes64; ++lane) lanes[lane] = static_cast<uint64_t>(lane);
  for (int v = 0; v < vectors; ++v) {
    word[0][v] = lanes + (block + static_cast<uint64_t>(v * kLanes64));
    word[1][v] = VecU64{} + (block >> 32);
    word[2][v] = VecU64{} + key.step;
    word[3][v] = VecU64{} + key.purpose;
  }
  const PhiloxKeys keys(key);
  philox_rounds<9>(keys, word);
  // The last round leaves words 1 and 0, then 3 and 2, in the halves of one lane: a block is a lane of either vector.
  VecU lower = {}, upper = {};  // which halves, of the first and of the other blocks
  for (int i = 0; i < kLanes; ++i) {
    const int lane = i / 4, second_pair = i / 2 % 2, half = 1 - i % 2;
    lower[i] = static_cast<uint32_t>(second_pair * kLanes + 2 * lane + half);
    upper[i] = lower[i] + kLanes / 2;
  }
  for (int v = 0; v < vectors; ++v) {
    const VecU64 p0 = multiply(word[0][v], kPhiloxFirst), p1 = multiply(word[2][v], kPhiloxSecond);
    const VecU64 pair = p1 ^ (word[1][v] << 32) ^ (keys.first[9] << 32);
    const VecU64 next_pair = p0 ^ (word[3][v] << 32) ^ (keys.second[9] << 32);
    words[2 * v] = __builtin_shuffle((VecU)pair, (VecU)next_pair, lower);
    words[2 * v + 1] = __builtin_shuffle((VecU)pair, (VecU)next_pair, upper);
  }
}

inline constexpr int64_t kFewWords = 4 * kLanes;

/// kFewWords words from a block on, for those that do not fill the vectors of for_words.
void few_words(const RandomKey& key, uint64_t block, uint32_t* out);

/// Calls body(i, words, Whole | Part) with words first + i, ... of key in the lanes, so that each i < count is met
/// once.
template <class Body>
inline void for_words(const RandomKey& key, uint64_t first, int64_t count, Body body) {
  constexpr int kVectors = kLanes == 16 ? 6 : 2;  // vectors of blocks: what the registers hold
  constexpr int64_t kWords = 2 * kVectors * kLanes;
  for (int64_t done = 0; done < count;) {
    const uint64_t word = first + static_cast<uint64_t>(done), block = word / 4;
    if (word % 4 == 0 && count - done >= kWords && same_upper_half(block, block + kWords / 4 - 1)) {
      VecU words[2 * kVectors];
      philox_words<kVectors>(key, block, words);
      for (int v = 0; v < 2 * kVectors; ++v) body(done + v * kLanes, words[v], Whole{});
      done += kWords;
    } else {
      uint32_t few[kFewWords + kLanes] = {};
      few_words(key, block, few);
      const int64_t skipped = static_cast<int64_t>(word % 4), whole_blocks = skipped > 0 ? 4 : kFewWords;
      const int64_t n = std::min(whole_blocks - skipped, count - done);
      vector_steps(0, n, [&](int64_t i, auto lanes) {
        VecU words;
        std::memcpy(&words, few + skipped + i, sizeof words);
        body(done + i, words, lanes);
      });
      done += n;
    }
  }
}

/// What dropout does with a word: 0 where uniform01(word) < p, else 1 / (1 - p).
class DropoutFactor {
 public:
  /// In whole numbers: uniform01(word) < p where word >> 8 < p 2^24.
  explicit DropoutFactor(float p)
      : keep_(1.0f / (1.0f - p)), bar_(static_cast<uint32_t>(std::ceil(p * 0x1p24f)) << 8) {}

  VecF of(VecU words) const { return select((VecI)(words >= bar_), broadcast(keep_), VecF{}); }

 private:
  float keep_;
  uint32_t bar_;
};

}  // namespace trident::cpu
