// Elements on the device: conversions, 16-byte packs, reductions in a warp and a block, and Philox words.
#pragma once

#include <cstdint>

#include "core/base/rng.h"
#include "kernels/cuda/cuda.h"

namespace trident::cuda {

SIMT_DEV float to_float(float x) { return x; }
SIMT_DEV float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
SIMT_DEV float to_float(__half x) { return __half2float(x); }

/// Rounds to nearest even.
template <class T>
SIMT_DEV T from_float(float x);
template <>
SIMT_DEV float from_float<float>(float x) {
  return x;
}
template <>
SIMT_DEV __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
SIMT_DEV __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

/// N consecutive elements as floats: one element, one access of 8 bytes, or accesses of 16 bytes. The address must be
/// aligned to the access. Lanes that hold neighbouring packs touch whole sectors as long as a pack is one access.
template <class T, int N>
struct Pack {
  static_assert(N == 1 || N * sizeof(T) == 8 || N * sizeof(T) % 16 == 0);
  float value[N];

  SIMT_DEV static Pack load(const T* p) {
    Pack pack;
    if constexpr (N == 1) {
      pack.value[0] = to_float(*p);
    } else if constexpr (N * sizeof(T) == 8) {
      union {
        uint2 bits;
        T element[N];
      } u;
      u.bits = simt::ld64(p);
#pragma unroll
      for (int j = 0; j < N; ++j) pack.value[j] = to_float(u.element[j]);
    } else {
      constexpr int kPer = 16 / static_cast<int>(sizeof(T));
#pragma unroll
      for (int i = 0; i < N / kPer; ++i) {
        union {
          uint4 bits;
          T element[kPer];
        } u;
        u.bits = simt::ld128(p + i * kPer);
#pragma unroll
        for (int j = 0; j < kPer; ++j) pack.value[i * kPer + j] = to_float(u.element[j]);
      }
    }
    return pack;
  }
  SIMT_DEV void store(T* p) const {
    if constexpr (N == 1) {
      *p = from_float<T>(value[0]);
    } else if constexpr (N * sizeof(T) == 8) {
      union {
        uint2 bits;
        T element[N];
      } u;
#pragma unroll
      for (int j = 0; j < N; ++j) u.element[j] = from_float<T>(value[j]);
      simt::st64(p, u.bits);
    } else {
      constexpr int kPer = 16 / static_cast<int>(sizeof(T));
#pragma unroll
      for (int i = 0; i < N / kPer; ++i) {
        union {
          uint4 bits;
          T element[kPer];
        } u;
#pragma unroll
        for (int j = 0; j < kPer; ++j) u.element[j] = from_float<T>(value[i * kPer + j]);
        simt::st128(p + i * kPer, u.bits);
      }
    }
  }
};

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int kPerVector = 16 / static_cast<int>(sizeof(T));

constexpr unsigned kWarp = 0xffffffffu;

template <class T>
SIMT_DEV T warp_sum(T x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kWarp, x, offset);
  return x;
}
SIMT_DEV float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kWarp, x, offset));
  return x;
}

/// The sum over a block of kThreads threads, at every thread. Every thread calls it; `shared` holds one T per warp and
/// may be used again after the next __syncthreads.
template <int kThreads, class T>
SIMT_DEV T block_sum(T x, T* shared) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  T total = shared[0];
#pragma unroll
  for (int i = 1; i < kThreads / 32; ++i) total += shared[i];
  return total;
}

/// As block_sum, for the maximum; a NaN is passed over.
template <int kThreads>
SIMT_DEV float block_max(float x, float* shared) {
  x = warp_max(x);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  float largest = shared[0];
#pragma unroll
  for (int i = 1; i < kThreads / 32; ++i) largest = fmaxf(largest, shared[i]);
  return largest;
}

}  // namespace trident::cuda
