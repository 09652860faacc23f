// What attention's forward and backward on AMX share: tiles of bf16 in the orders that its products take.
//
// Legend: I queries and J keys of a tile (kTile of each), K head size, P = K rounded up to kAmxStep.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/attention_tile.h"

namespace trident::cpu {

#if defined(__AVX512F__)

static_assert(kTile % kAmxStep == 0);

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

/// rows[0..kTile)[0..padded) = src rows, zeros past `count` rows and past the head size.
inline void copy_rows(bf16* rows, const bf16* src, int64_t stride, int64_t count, int64_t size, int64_t padded) {
  if (size < padded || count < kTile) std::fill(rows, rows + kTile * padded, bf16(0.0f));
  for (int64_t i = 0; i < count; ++i) std::copy_n(src + i * stride, size, rows + i * padded);
}

/// words[p][i] = word p of row i of rows[kTile][padded].
inline void transpose_rows(uint32_t* words, const bf16* rows, int64_t padded) {
  const auto* in = reinterpret_cast<const uint32_t*>(rows);
  const int64_t width = padded / 2;
  for (int64_t i = 0; i < kTile; i += 16) {
    for (int64_t p = 0; p < width; p += 16) transpose_words(words + p * kTile + i, kTile, in + i * width + p, width);
  }
}

/// words[i][p] = (rows[2i][p], rows[2i + 1][p]).
inline void pair_rows(uint32_t* words, const bf16* rows, int64_t padded) {
  for (int64_t i = 0; i < kTile / 2; ++i) {
    for (int64_t p = 0; p < padded; p += 16) {
      VecU16 even, odd;
      std::memcpy(&even, rows + 2 * i * padded + p, sizeof even);
      std::memcpy(&odd, rows + (2 * i + 1) * padded + p, sizeof odd);
      const VecU pair = pair_words(even, odd);
      std::memcpy(words + i * padded + p, &pair, sizeof pair);
    }
  }
}

/// columns[p][j] = rows[j][p], from the words of transpose_rows.
inline void split_words(bf16* columns, const uint32_t* words, int64_t padded) {
  for (int64_t p = 0; p < padded / 2; ++p) {
    for (int64_t j = 0; j < kTile; j += 16) {
      VecU pair;
      std::memcpy(&pair, words + p * kTile + j, sizeof pair);
      const VecU16 even = __builtin_convertvector(pair & 0xffffu, VecU16),
                   odd = __builtin_convertvector(pair >> 16, VecU16);
      std::memcpy(static_cast<void*>(columns + 2 * p * kTile + j), &even, sizeof even);
      std::memcpy(static_cast<void*>(columns + (2 * p + 1) * kTile + j), &odd, sizeof odd);
    }
  }
}

#endif

}  // namespace trident::cpu
