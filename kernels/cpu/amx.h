// Products of bf16 tiles on AMX (Intel Architecture Instruction Set Extensions, chapter 3): sixteen times the f32
// vector units' rate. What attention and the GEMM on tiles (gemm_amx.cpp) share.
//
// Legend: an operand "in pairs" holds 32-bit words of two bf16 that are neighbours along the summed dimension: row p of
// b in pairs is b[2p], b[2p + 1] interleaved. TDPBF16PS wants its right operand like that.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

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

/// Blocks of `step` x `step` words change places across the diagonal. `lane`: 0 ... 15.
template <int step, int... lane>
inline void swap_blocks(VecU (&row)[16], std::integer_sequence<int, lane...>) {
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    if ((r & step) != 0) continue;
    const VecU a = row[r], b = row[r + step];  // b's lanes are counted from 16
    row[r] = __builtin_shufflevector(a, b, ((lane & step) == 0 ? lane : 16 + lane - step)...);
    row[r + step] = __builtin_shufflevector(a, b, ((lane & step) == 0 ? lane + step : 16 + lane)...);
  }
}

/// 16 x 16 words transposed, in registers.
inline void transpose_rows(VecU (&row)[16]) {
  constexpr std::make_integer_sequence<int, 16> kLane;
  swap_blocks<1>(row, kLane);
  swap_blocks<2>(row, kLane);
  swap_blocks<4>(row, kLane);
  swap_blocks<8>(row, kLane);
}

/// 16 x 16 words transposed. Strides in words.
inline void transpose_words(uint32_t* out, int64_t out_stride, const uint32_t* in, int64_t in_stride) {
  VecU row[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&row[i], in + i * in_stride, sizeof(VecU));
  transpose_rows(row);
  for (int p = 0; p < 16; ++p) std::memcpy(out + p * out_stride, &row[p], sizeof(VecU));
}

/// 16 words from two runs of 16 bf16: `even` in the low halves, `odd` in the high ones.
inline VecU pair_words(VecU16 even, VecU16 odd) {
  return __builtin_convertvector(even, VecU) | __builtin_convertvector(odd, VecU) << 16;
}

#endif

}  // namespace trident::cpu
