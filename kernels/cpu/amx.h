// Products of bf16 tiles on AMX (Intel Architecture Instruction Set Extensions, chapter 3): sixteen times the f32
// vector units' rate. What attention and the GEMM on tiles (gemm_amx.cpp) share.
//
// Legend: an operand "in pairs" holds 32-bit words of two bf16 that are neighbours along the summed dimension: row p of
// b in pairs is b[2p], b[2p + 1] interleaved. TDPBF16PS wants its right operand like that.
//
// Parts: f32 goes in as three bf16, x = x0 + x1 + x2, x0 the nearest bf16 to x, x1 the nearest to x - x0: 24 bits in
// three times 8, exact but for what lies below bf16's smallest normal number (1.2e-38). An infinite x has a NaN among
// its parts. Six of the nine products of parts are summed (Henry, Tang and Heinecke, "Leveraging the bfloat16
// artificial intelligence datatype for higher-precision computations", ARITH 2019): the three left out are below 2^-25
// of the product.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/simd.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
inline constexpr bool kBuiltWithAmx = true;
#else
inline constexpr bool kBuiltWithAmx = false;
#endif

/// Whether this process may use the tiles: nothing that is compiled for them runs where it may not (isa.cpp).
inline bool amx_ready() { return kBuiltWithAmx; }

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

/// bf16 numbers that stand for one element.
template <class T>
inline constexpr int64_t kParts = sizeof(T) == sizeof(bf16) ? 1 : 3;

/// c[rows][cols] (+)= a[rows][k] b, b in pairs: k / 2 rows of `b_words` words. Strides of a and c in elements; parts
/// lie `a_part` elements and `b_part` words apart. Sums over k in ascending order, 32 at a time; c takes a sum of f32
/// over all of k by one rounding. Needs AmxTiles.
template <int64_t parts>
void amx_product(int64_t rows, int64_t cols, int64_t k, const bf16* a, int64_t a_stride, int64_t a_part,
                 const uint32_t* b, int64_t b_words, int64_t b_part, float* c, int64_t c_stride, bool accumulate);

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

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

/// Tiles 0 to 3 += tiles 4 and 5, one above the other, times tiles 6 and 7, side by side.
inline void multiply_tiles() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

/// Tiles 0 to 3 += the product of two operands over one step of tiles. left(part) loads tiles 4 and 5, right(part)
/// tiles 6 and 7: neighbouring products share one of them.
template <int64_t parts, class Left, class Right>
inline void multiply_parts(Left left, Right right) {
  static_assert(parts == 1 || parts == 3);
  right(0);
  if constexpr (parts == 3) {
    left(2);
    multiply_tiles();
    left(1);
    multiply_tiles();
    right(1);
    multiply_tiles();
    left(0);
    multiply_tiles();
    right(2);
    multiply_tiles();
    right(0);
  } else {
    left(0);
  }
  multiply_tiles();
}

/// 32 bf16: `low` and `high` rounded; 0 where a bit of `kept` is 0.
inline __m512i row_bf16(VecF low, VecF high, uint32_t kept = ~uint32_t{0}) {
  return (__m512i)_mm512_maskz_cvtne2ps_pbh(kept, (__m512)high, (__m512)low);
}

/// The same in pairs: words[i] = (even[i], odd[i]). `kept`: of even in its low half, of odd in the high one.
inline VecU pair_bf16(VecF even, VecF odd, uint32_t kept = ~uint32_t{0}) {
  const VecU order = (VecU)lane_numbers() * 0x10001u + 0x100000u;  // word i: halves i and 16 + i
  return (VecU)_mm512_maskz_permutexvar_epi16(~__mmask32{0}, (__m512i)order, row_bf16(even, odd, kept));
}

/// Takes the nearest bf16 off x and returns it, in f32. Of a NaN it may take anything, and leaves a NaN.
inline VecF take_part(VecF& x) {
  const auto part = (VecF)(((VecU)x + 0x8000u) & 0xffff0000u);
  x -= part;
  return part;
}

/// All parts of two vectors; join(first, second) rounds and puts together what an operand takes of a part.
template <int64_t parts, class Operand, class Join>
inline void split(Operand (&operand)[parts], VecF first, VecF second, Join join) {
  for (int64_t n = 0; n + 1 < parts; ++n) {
    const VecF first_part = take_part(first), second_part = take_part(second);
    operand[n] = join(first_part, second_part);
  }
  operand[parts - 1] = join(first, second);
}
template <int64_t parts>
inline void split_row(__m512i (&row)[parts], VecF low, VecF high, uint32_t kept = ~uint32_t{0}) {
  split(row, low, high, [kept](VecF a, VecF b) { return row_bf16(a, b, kept); });
}
template <int64_t parts>
inline void split_pairs(VecU (&words)[parts], VecF even, VecF odd, uint32_t kept = ~uint32_t{0}) {
  split(words, even, odd, [kept](VecF a, VecF b) { return pair_bf16(a, b, kept); });
}

/// The even and the odd ones of 32 neighbours.
inline void load_pairs(const float* p, VecF& even, VecF& odd) {
  const VecI lanes = 2 * lane_numbers();
  const auto first = (__m512)load(p), last = (__m512)load(p + kLanes);
  even = (VecF)_mm512_permutex2var_ps(first, (__m512i)lanes, last);
  odd = (VecF)_mm512_permutex2var_ps(first, (__m512i)(lanes + 1), last);
}

#endif

}  // namespace trident::cpu
