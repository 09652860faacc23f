// The register-blocked inner product that GEMM and attention share: an R x (V vectors) tile of c stays in registers
// while k runs. Every element sums over k in ascending order with fused multiply-adds, whatever R and V are.
#pragma once

#include "kernels/cpu/simd.h"

namespace trident::cpu {

// Tile of registers: 12 accumulators of 16 on AVX2, 24 of 32 on AVX-512.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 12;
#else
inline constexpr int kTileRows = 6;
#endif
inline constexpr int kTileVectors = 2;
inline constexpr int kTileCols = kTileVectors * kLanes;

/// c[r][0..kTileCols) (+)= sum_p a[r * row_stride + p * k_stride] * b[p * b_stride + 0..kTileCols), r < R.
template <int R>
__attribute__((always_inline)) inline void micro_kernel(int64_t k, const float* a, int64_t row_stride, int64_t k_stride,
                                                        const float* b, int64_t b_stride, float* c, int64_t c_stride,
                                                        bool accumulate) {
  VecF sum[R][kTileVectors] = {};
  for (int64_t p = 0; p < k; ++p) {
    VecF b_p[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) b_p[v] = load(b + p * b_stride + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const VecF a_r = broadcast(a[r * row_stride + p * k_stride]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) sum[r][v] += a_r * b_p[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      float* out = c + r * c_stride + v * kLanes;
      store(out, accumulate ? load(out) + sum[r][v] : sum[r][v]);
    }
  }
}

}  // namespace trident::cpu
