// Products of bf16 tiles on AMX (Intel Architecture Instruction Set Extensions, chapter 3): sixteen times the f32
// vector units' rate. Only what attention needs; GEMM goes through oneDNN.
//
// Legend: an operand "in pairs" holds 32-bit words of two bf16 that are neighbours along the summed dimension: row p of
// b in pairs is b[2p], b[2p + 1] interleaved. TDPBF16PS wants its right operand like that.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512F__)
inline constexpr bool kBuiltWithAmx = true;
#else
inline constexpr bool kBuiltWithAmx = false;
#endif

/// Whether this process may use the tiles: built for them, and the kernel, asked once, grants their state.
bool amx_ready();

/// Rows and columns of every product, and its summed dimension, are multiples of this.
inline constexpr int64_t kAmxStep = 32;
inline int64_t round_to_amx(int64_t n) { return (n + kAmxStep - 1) / kAmxStep * kAmxStep; }

/// Sets up this thread's tiles for as long as it lives. oneDNN does the same around its own calls.
class AmxTiles {
 public:
  AmxTiles();
  ~AmxTiles();
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

/// c[rows][cols] (+)= a[rows][k] b, b in pairs: k / 2 rows of `b_words` words. Strides of a and c in elements. Sums
/// over k in ascending order, 32 at a time. Needs AmxTiles.
void amx_product(int64_t rows, int64_t cols, int64_t k, const bf16* a, int64_t a_stride, const uint32_t* b,
                 int64_t b_words, float* c, int64_t c_stride, bool accumulate);

#if defined(__AVX512F__)

/// 16 x 16 words transposed. Strides in words.
inline void transpose_words(uint32_t* out, int64_t out_stride, const uint32_t* in, int64_t in_stride) {
  VecU row[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&row[i], in + i * in_stride, sizeof(VecU));
    // Blocks of 1, 2, 4, 8 change places across the diagonal.
#pragma GCC unroll 4
  for (unsigned step = 1; step < 16; step *= 2) {
    VecU low, high;  // lanes of the pair of rows (a, b), b's counted from 16
    for (unsigned l = 0; l < 16; ++l) {
      low[l] = (l & step) == 0 ? l : 16 + l - step;
      high[l] = (l & step) == 0 ? l + step : 16 + l;
    }
#pragma GCC unroll 16
    for (unsigned r = 0; r < 16; ++r) {
      if ((r & step) != 0) continue;
      const VecU a = row[r], b = row[r + step];
      row[r] = __builtin_shuffle(a, b, low);
      row[r + step] = __builtin_shuffle(a, b, high);
    }
  }
  for (int p = 0; p < 16; ++p) std::memcpy(out + p * out_stride, &row[p], sizeof(VecU));
}

/// 16 words from two runs of 16 bf16: `even` in the low halves, `odd` in the high ones.
inline VecU pair_words(VecU16 even, VecU16 odd) {
  return __builtin_convertvector(even, VecU) | __builtin_convertvector(odd, VecU) << 16;
}

#endif

}  // namespace trident::cpu
