// Tiles of attention on tensor cores: rows in shared memory, and products of tiles by mma.sync.m16n8k16.
//
// Legend: K head size (kHead); a tile has kRows rows (positions of one head) of K elements of 16 bits. A "fragment" is
// the part of a 16 x 8 block of f32 that one thread of a warp holds: element i lies in row lane / 4 + 8 * (i / 2) and
// column lane % 4 * 2 + i % 2 (PTX ISA, "Matrix fragments for mma.m16n8k16"). Scores s[m][n][i]: kM blocks of 16 rows
// of the warp's own positions, kN blocks of 8 columns of the positions that stream past.
//
// Policy: shared memory is free of bank conflicts. The 8 rows that one phase of ldmatrix reads at the same 16-byte
// chunk must lie in 8 different groups of 4 banks, so chunks are permuted by XOR with a number that depends on the row.
#pragma once

#include <type_traits>

#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/cuda.h"

namespace trident::cuda::attention {

constexpr int kLargestSharedBytes = 163 * 1024;  ///< of a block on sm_80

/// Where the chunks of a tile's rows lie.
template <int kHead>
struct Swizzle {
  static_assert(kHead == 64 || kHead == 96 || kHead == 128);
  static constexpr int kChunks = kHead / 8;
  static constexpr int kGroup = kHead == 96 ? 4 : 8;  ///< chunks change places within groups of this many
  /// Element offset of 16-byte chunk `even + odd` of a row, `even` without its lowest bit. Rows of 128 and 256 bytes
  /// start at the same bank: XOR with row % 8. Rows of 192 bytes alternate between two halves of the banks: XOR with
  /// row / 2 % 4. Kept apart, an `even` known at compile time costs one instruction.
  SIMT_DEV static int at(int row, int even, int odd) {
    const int mask = kGroup == 4 ? row >> 1 & 3 : row & 7;
    return row * kHead + (odd ^ mask ^ (even & (kGroup - 1))) * 8 + (even & -kGroup) * 8;
  }
  SIMT_DEV static int at(int row, int chunk) { return at(row, chunk & ~1, chunk & 1); }
};

/// Starts copying rows [first, first + kRows) of one head into `tile`; rows from `context` on become zeros. `src` is
/// row 0. Every thread of the block calls it; it is complete after cp_async_wait and __syncthreads.
template <int kHead, int kRows, int kThreads, class T>
SIMT_DEV void load_tile(T* tile, const T* src, int64_t stride, int first, int context) {
  constexpr int kChunks = Swizzle<kHead>::kChunks;
  static_assert(kRows * kChunks % kThreads == 0);
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    const int row = index / kChunks, chunk = index % kChunks;
    const bool valid = first + row < context;
    const T* from = src + (valid ? (first + row) * stride : 0) + chunk * 8;
    simt::cp_async16(tile + Swizzle<kHead>::at(row, chunk), from, valid);
  }
}

/// Runs compute(i, buffer) for i in [0, count), count >= 1, while load(i + 1, other buffer) is under way. One barrier
/// an item: behind it everyone sees item i, and nobody reads the buffer of item i - 1 any longer.
template <class Load, class Compute>
SIMT_DEV void stream_items(int count, Load load, Compute compute) {
  load(0, 0);
  simt::cp_async_commit();
  for (int i = 0; i < count; ++i) {
    simt::cp_async_wait<0>();
    __syncthreads();
    if (i + 1 < count) load(i + 1, (i + 1) & 1);
    simt::cp_async_commit();
    compute(i, i & 1);
  }
}

template <class T>
SIMT_DEV void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    simt::mma_f16_16816(d, a, b0, b1);
  } else {
    simt::mma_bf16_16816(d, a, b0, b1);
  }
}

/// Two floats, rounded to T, as the instructions take them.
template <class T>
SIMT_DEV uint32_t pack_pair(float low, float high) {
  union {
    std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162> pair;
    uint32_t bits;
  } u;
  if constexpr (std::is_same_v<T, __half>) {
    u.pair = __floats2half2_rn(low, high);
  } else {
    u.pair = __floats2bfloat162_rn(low, high);
  }
  return u.bits;
}

/// s = A B^T: rows [row, row + 16 kM) of tile `a` against the 8 kN rows of tile `b`.
template <int kHead, class T, int kM, int kN>
SIMT_DEV void row_products(float (&s)[kM][kN][4], const T* a, int row, const T* b) {
  const int lane_row = threadIdx.x & 15, lane_chunk = threadIdx.x >> 4 & 1;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) s[m][n][i] = 0;
#pragma unroll
  for (int k = 0; k < kHead / 16; ++k) {
    uint32_t fragment_a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      simt::ldmatrix_x4(fragment_a[m], a + Swizzle<kHead>::at(row + m * 16 + lane_row, k * 2, lane_chunk));
    }
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) {
      uint32_t fragment_b[4];
      simt::ldmatrix_x4(fragment_b, b + Swizzle<kHead>::at(n * 16 + lane_row, k * 2, lane_chunk));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma<T>(s[m][2 * n], fragment_a[m], fragment_b[0], fragment_b[2]);
        mma<T>(s[m][2 * n + 1], fragment_a[m], fragment_b[1], fragment_b[3]);
      }
    }
  }
}

/// acc += W B: weights in the layout of scores, rounded to T here (a C fragment is an A fragment), times the 8 kN rows
/// of tile `b`.
template <class T, int kM, int kN, int kColumns>
SIMT_DEV void add_weighted_rows(float (&acc)[kM][kColumns][4], const float (&w)[kM][kN][4], const T* b) {
  constexpr int kHead = kColumns * 8;
  const int lane_row = threadIdx.x & 15, lane_chunk = threadIdx.x >> 4 & 1;
#pragma unroll
  for (int k = 0; k < kN / 2; ++k) {
    uint32_t fragment_a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&from)[4] = w[m][2 * k + i / 2];
        fragment_a[m][i] = pack_pair<T>(from[i % 2 * 2], from[i % 2 * 2 + 1]);
      }
#pragma unroll
    for (int n = 0; n < kColumns / 2; ++n) {
      uint32_t fragment_b[4];
      simt::ldmatrix_x4_trans(fragment_b, b + Swizzle<kHead>::at(k * 16 + lane_row, n * 2, lane_chunk));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma<T>(acc[m][2 * n], fragment_a[m], fragment_b[0], fragment_b[1]);
        mma<T>(acc[m][2 * n + 1], fragment_a[m], fragment_b[2], fragment_b[3]);
      }
    }
  }
}

/// Writes factor[m][half] * acc to rows [first + row, ...) of one head, by 16-byte stores. `tile` is memory to stage
/// them in: rows [row, row + 16 kM) of it, which only this warp uses. `dst` is row 0; rows from `context` on aren't
/// written.
template <class T, int kM, int kColumns>
SIMT_DEV void store_rows(T* dst, int64_t stride, int first, int context, const float (&acc)[kM][kColumns][4],
                         const float (&factor)[kM][2], T* tile, int row) {
  constexpr int kHead = kColumns * 8;
  const int lane = threadIdx.x & 31;
  __syncwarp();  // the other lanes have read the tile
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float f = factor[m][half];
        T* to = tile + Swizzle<kHead>::at(row + m * 16 + half * 8 + lane / 4, n) + lane % 4 * 2;
        *reinterpret_cast<uint32_t*>(to) = pack_pair<T>(acc[m][n][half * 2] * f, acc[m][n][half * 2 + 1] * f);
      }
  __syncwarp();
  constexpr int kChunks = Swizzle<kHead>::kChunks;
#pragma unroll 4
  for (int index = lane; index < kM * 16 * kChunks; index += 32) {
    const int r = row + index / kChunks, chunk = index % kChunks;
    if (first + r >= context) continue;
    simt::st128(dst + (first + r) * stride + chunk * 8, simt::ld128(tile + Swizzle<kHead>::at(r, chunk)));
  }
}

}  // namespace trident::cuda::attention
