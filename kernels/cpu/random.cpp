#include "kernels/cpu/random.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/philox.h"

namespace trident::cpu {
namespace {

constexpr int kVectors = 2;
constexpr int kBlocks = kVectors * kLanes64;

/// The 4 * kBlocks words of blocks [block, block + kBlocks), in order.
void philox_words(const RandomKey& key, uint64_t block, uint32_t* out) {
  VecU64 number[kVectors], word[4][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    for (int lane = 0; lane < kLanes64; ++lane) number[v][lane] = block + static_cast<uint64_t>(v * kLanes64 + lane);
  }
  philox_blocks(key, number, word);
  for (int v = 0; v < kVectors; ++v) {
    const VecU64 low = (word[0][v] & 0xffffffffu) | word[1][v] << 32;
    const VecU64 high = (word[2][v] & 0xffffffffu) | word[3][v] << 32;
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
