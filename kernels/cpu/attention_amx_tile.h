// What attention's forward and backward on AMX share: bf16 and parts of f32 (amx.h) in the orders that its products
// take, e^x for the softmax, and dropout. Scores lie keys down and queries across: a vector holds one key's scores of
// 16 queries, so maxima and sums of the softmax are plain vectors, and nothing is summed across lanes.
//
// Legend: I queries of a block (kQueries), J keys, C context, K head size, P = K rounded up to kAmxStep. _w: words of
// two bf16, in pairs along the dimension that is summed (amx.h).
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/philox.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

inline constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

inline int64_t padded_size(const AttentionShape& shape) { return round_to_amx(shape.head_size); }

/// Hands out runs of a thread's floats, as whatever lies there.
class Cutter {
 public:
  explicit Cutter(float* at) : at_(at) {}
  float* floats(int64_t n) { return std::exchange(at_, at_ + n); }
  bf16* halves(int64_t n) { return reinterpret_cast<bf16*>(floats(n / 2)); }
  uint32_t* words(int64_t n) { return reinterpret_cast<uint32_t*>(floats(n)); }

 private:
  float* at_;
};

/// A head's rows lie too far apart for the hardware to see what comes next.
inline constexpr int64_t kRowsAhead = 8;
template <class T>
inline void fetch_row(const T* row, int64_t size) {
  for (int64_t p = 0; p < size; p += static_cast<int64_t>(64 / sizeof(T))) __builtin_prefetch(row + p);
}

/// rows[0..height)[0..padded) = src rows, zeros past `count` rows and past the head size; its parts lie `part` elements
/// apart.
inline void copy_rows(bf16* rows, int64_t, const bf16* src, int64_t stride, int64_t count, int64_t height, int64_t size,
                      int64_t padded) {
  if (size < padded || count < height) std::fill(rows, rows + height * padded, bf16(0.0f));
  for (int64_t i = 0; i < count; ++i) {
    fetch_row(src + (i + kRowsAhead) * stride, size);
    std::copy_n(src + i * stride, size, rows + i * padded);
  }
}
inline void copy_rows(bf16* rows, int64_t part, const float* src, int64_t stride, int64_t count, int64_t height,
                      int64_t size, int64_t padded) {
  for (int64_t i = 0; i < height; ++i) {
    fetch_row(src + (i + kRowsAhead) * stride, size);
    for (int64_t p = 0; p < padded; p += kAmxStep) {
      float edge[kAmxStep] = {};
      const int64_t have = i < count ? std::clamp<int64_t>(size - p, 0, kAmxStep) : 0;
      const float* in = have == kAmxStep ? src + i * stride + p : edge;
      if (in == edge) std::copy_n(src + i * stride + p, have, edge);
      __m512i row[kParts<float>];
      split_row(row, load(in), load(in + kLanes));
      for (int64_t n = 0; n < kParts<float>; ++n) {
        std::memcpy(static_cast<void*>(rows + n * part + i * padded + p), &row[n], sizeof row[n]);
      }
    }
  }
}

/// words[p][i] = word p of row i of rows[height][padded], `stride` words apart.
inline void transpose_rows(uint32_t* words, int64_t stride, const bf16* rows, int64_t height, int64_t padded) {
  const auto* in = reinterpret_cast<const uint32_t*>(rows);
  const int64_t width = padded / 2;
  for (int64_t i = 0; i < height; i += 16) {
    for (int64_t p = 0; p < width; p += 16) {
      transpose_words(words + p * stride + i, stride, in + i * width + p, width);
    }
  }
}

/// words[i][p] = (rows[2i][p], rows[2i + 1][p]).
inline void pair_rows(uint32_t* words, const bf16* rows, int64_t height, int64_t padded) {
  for (int64_t i = 0; i < height / 2; ++i) {
    for (int64_t p = 0; p < padded; p += 16) {
      VecU16 even, odd;
      std::memcpy(&even, rows + 2 * i * padded + p, sizeof even);
      std::memcpy(&odd, rows + (2 * i + 1) * padded + p, sizeof odd);
      const VecU pair = pair_words(even, odd);
      std::memcpy(words + i * padded + p, &pair, sizeof pair);
    }
  }
}

/// columns[p][j] = rows[j][p], `stride` apart, of rows[height][padded].
inline void transpose_halves(bf16* columns, int64_t stride, const bf16* rows, int64_t height, int64_t padded) {
  const auto* in = reinterpret_cast<const uint32_t*>(rows);
  const int64_t width = padded / 2;
  for (int64_t j = 0; j < height; j += 16) {
    for (int64_t p = 0; p < width; p += 16) {
      VecU word[16];
      transpose_words(reinterpret_cast<uint32_t*>(word), 16, in + j * width + p, width);
      for (int64_t row = 0; row < 16; ++row) {
        const VecU16 even = __builtin_convertvector(word[row] & 0xffffu, VecU16),
                     odd = __builtin_convertvector(word[row] >> 16, VecU16);
        bf16* out = columns + 2 * (p + row) * stride + j;
        std::memcpy(static_cast<void*>(out), &even, sizeof even);
        std::memcpy(static_cast<void*>(out + stride), &odd, sizeof odd);
      }
    }
  }
}

/// rows[i][p] = block[p][i] for i < queries, p < size, of a block of 16 x 16.
template <class T>
inline void store_transposed(T* rows, int64_t stride, const float* block, int64_t queries, int64_t size) {
  float row[kLanes * kLanes];
  transpose_words(reinterpret_cast<uint32_t*>(row), kLanes, reinterpret_cast<const uint32_t*>(block), kLanes);
  for (int64_t i = 0; i < queries; ++i) {
    vector_steps(0, size, [&](int64_t p, auto lanes) { store(rows + i * stride + p, load(row + i * kLanes), lanes); });
  }
}

/// words[i] = (even[i], odd[i]) of two rows of 32 bf16.
inline void interleave_rows(uint32_t* words, __m512i even, __m512i odd) {
  const VecU order = (VecU)lane_numbers() * 0x10001u + 0x200000u;  // word i: i and 32 + i
  const __m512i low = _mm512_permutex2var_epi16(even, (__m512i)order, odd);
  const __m512i high = _mm512_permutex2var_epi16(even, (__m512i)(order + 0x100010u), odd);
  std::memcpy(words, &low, sizeof low);
  std::memcpy(words + kLanes, &high, sizeof high);
}

/// For 16 queries from `query` on and keys [key, key + keys), both multiples of 4: bit i of keep[j] says that dropout
/// lets query i's probability of key j pass. The words are those of attention_dropout.
void attention_keep(const AttentionArgs& args, int64_t sequence, int64_t head, int64_t query, int64_t key, int64_t keys,
                    uint16_t* keep);

#endif

}  // namespace trident::cpu
