#include "kernels/cpu/random.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/philox.h"

namespace trident::cpu {
namespace {

/// Words of `vectors` vectors of blocks.
template <int vectors>
constexpr int64_t kWordsOf = 4 * vectors* kLanes64;

/// The words of vectors * kLanes64 blocks from `block` on, in order.
template <int vectors>
void philox_words(const RandomKey& key, uint64_t block, uint32_t* out) {
  VecU64 number[vectors], word[4][vectors];
  VecU64 lanes = {}, first = {};  // the numbers of lanes; which lanes of two vectors are the first blocks
  for (int lane = 0; lane < kLanes64; ++lane) {
    lanes[lane] = static_cast<uint64_t>(lane);
    first[lane] = static_cast<uint64_t>(lane / 2 + lane % 2 * kLanes64);
  }
  for (int v = 0; v < vectors; ++v) number[v] = lanes + (block + static_cast<uint64_t>(v * kLanes64));
  philox_blocks(key, number, word);
  for (int v = 0; v < vectors; ++v) {
    const VecU64 low = (word[0][v] & 0xffffffffu) | word[1][v] << 32;
    const VecU64 high = (word[2][v] & 0xffffffffu) | word[3][v] << 32;
    // A block is a lane of low beside one of high.
    const VecU64 blocks[2] = {__builtin_shuffle(low, high, first), __builtin_shuffle(low, high, first + kLanes64 / 2)};
    std::memcpy(out + 4 * v * kLanes64, blocks, sizeof blocks);
  }
}

}  // namespace

void random_words(const RandomKey& key, uint64_t first, int64_t count, uint32_t* out) {
  constexpr int kMany = kLanes == 16 ? 4 : 2, kFew = 2;  // what the registers hold, and for the rest
  const auto word_of = [&](int64_t i) { return first + static_cast<uint64_t>(i); };
  int64_t done = 0;
  for (; done < count && word_of(done) % 4 != 0; ++done) out[done] = random_u32(key, word_of(done));
  for (; done + kWordsOf<kMany> <= count; done += kWordsOf<kMany>) {
    philox_words<kMany>(key, word_of(done) / 4, out + done);
  }
  for (; done < count; done += kWordsOf<kFew>) {
    uint32_t words[kWordsOf<kFew>];
    philox_words<kFew>(key, word_of(done) / 4, words);
    std::memcpy(out + done, words, static_cast<size_t>(std::min(kWordsOf<kFew>, count - done)) * sizeof(uint32_t));
  }
}

void dropout_factors(const RandomKey& key, uint64_t first, int64_t count, float p, float* out) {
  constexpr int64_t kRun = 512;
  const float keep = 1.0f / (1.0f - p);
  uint32_t words[kRun];
  for (int64_t done = 0; done < count; done += kRun) {
    const int64_t n = std::min(kRun, count - done);
    random_words(key, first + static_cast<uint64_t>(done), n, words);
    for (int64_t i = 0; i < n; ++i) {
      const float u = static_cast<float>(static_cast<int32_t>(words[i] >> 8)) * 0x1p-24f;
      out[done + i] = u >= p ? keep : 0.0f;
    }
  }
}

}  // namespace trident::cpu
