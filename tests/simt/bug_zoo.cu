// The kernels of the bug zoo. Everything that differs from the corrected kernel stands behind kRight.
#include "simt/bug_zoo.h"

namespace trident::simt_tests {

// Both versions of each; the linker needs them from here, where the source is instrumented.
#define ZOO_BOTH(kernel, ...)                          \
  template __global__ void kernel<false>(__VA_ARGS__); \
  template __global__ void kernel<true>(__VA_ARGS__);

template <bool kRight>
__global__ void missing_sync(float* out) {
  __shared__ float s[64];
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  if constexpr (kRight) __syncthreads();
  out[threadIdx.x] = s[63 - threadIdx.x];
}
ZOO_BOTH(missing_sync, float*)

template <bool kRight>
__global__ void missing_syncwarp(float* out) {
  __shared__ float s[32];
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  if constexpr (kRight) __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
ZOO_BOTH(missing_syncwarp, float*)

template <bool kRight>
__global__ void refill_in_use(float* out, const float* in) {
  __shared__ float s[64];
  float sum = 0;
  for (unsigned tile = 0; tile < 2; ++tile) {
    s[threadIdx.x] = in[tile * 64 + threadIdx.x];
    __syncthreads();
    sum += s[63 - threadIdx.x];
    if constexpr (kRight) __syncthreads();
  }
  out[threadIdx.x] = sum;
}
ZOO_BOTH(refill_in_use, float*, const float*)

template <bool kRight>
__global__ void overwrite_in_warp(float* out) {
  __shared__ float s[32];
  s[threadIdx.x] = 1.0f;
  __syncwarp();
  const float all_read = s[7];
  if constexpr (kRight) __syncwarp();
  s[(threadIdx.x + 1) % 32] = all_read;
  __syncwarp();
  out[threadIdx.x] = s[threadIdx.x];
}
ZOO_BOTH(overwrite_in_warp, float*)

template <bool kRight>
__global__ void divergent_barrier(float* out) {
  if (kRight || threadIdx.x < 16) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    __syncthreads();
    out[threadIdx.x] = 2;
  }
}
ZOO_BOTH(divergent_barrier, float*)

template <bool kRight>
__global__ void warps_at_different_barriers(float* out) {
  if (kRight || threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}
ZOO_BOTH(warps_at_different_barriers, float*)

template <bool kRight>
__global__ void barrier_in_branch(float* out) {
  if (kRight || threadIdx.x < 48) __syncthreads();
  out[threadIdx.x] = static_cast<float>(__shfl_xor_sync(0xffffffffu, 1, 1));
}
ZOO_BOTH(barrier_in_branch, float*)

template <bool kRight>
__global__ void early_exit(float* out) {
  if (!kRight && threadIdx.x >= 40) return;
  __syncthreads();
  if (threadIdx.x < 40) out[threadIdx.x] = 1;
}
ZOO_BOTH(early_exit, float*)

template <bool kRight>
__global__ void shuffle_inactive(float* out) {
  if (threadIdx.x >= 20) return;
  const float x = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = __shfl_down_sync(0xfffffu, x, kRight && threadIdx.x >= 16 ? 0 : 4);
}
ZOO_BOTH(shuffle_inactive, float*)

template <bool kRight>
__global__ void shuffle_divergent(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (kRight || threadIdx.x % 2 == 1) {
    x = __shfl_xor_sync(0xffffffffu, x, 1);
  } else {
    x = __shfl_xor_sync(0xffffffffu, x, 2);
  }
  out[threadIdx.x] = x;
}
ZOO_BOTH(shuffle_divergent, float*)

template <bool kRight>
__global__ void wrong_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = static_cast<float>(__ballot_sync(kRight ? 0xffffu : 0xffu, 1));
}
ZOO_BOTH(wrong_mask, float*)

template <bool kRight>
__global__ void mma_in_branch(float* out) {
  if (!kRight && threadIdx.x == 31) return;
  float d[4] = {};
  const uint32_t a[4] = {};
  simt::mma_bf16_16816(d, a, 0, 0);
  out[threadIdx.x] = d[0];
}
ZOO_BOTH(mma_in_branch, float*)

template <bool kRight>
__global__ void read_past_end(float* out, const float* in, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (kRight ? i < n : i <= n) out[i % n] = in[i];
}
ZOO_BOTH(read_past_end, float*, const float*, int)

template <bool kRight>
__global__ void write_past_end(float* out, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (kRight ? i < n : i <= n) out[i] = 1;
}
ZOO_BOTH(write_past_end, float*, int)

template <bool kRight>
__global__ void vector_past_end(float* out, const float* in) {
  const unsigned i = threadIdx.x * 4;  // of 126 floats
  if (kRight && i + 4 > 126) return;
  out[threadIdx.x] = __uint_as_float(simt::ld128(in + i).x);
}
ZOO_BOTH(vector_past_end, float*, const float*)

template <bool kRight>
__global__ void misaligned_float4(float4* out, const float* in) {
  out[threadIdx.x] = *reinterpret_cast<const float4*>(in + threadIdx.x * 4 + (kRight ? 0 : 1));
}
ZOO_BOTH(misaligned_float4, float4*, const float*)

template <bool kRight>
__global__ void misaligned_ld128(uint4* out, const __nv_bfloat16* in) {
  out[threadIdx.x] = simt::ld128(in + threadIdx.x * 8 + (kRight ? 0 : 4));
}
ZOO_BOTH(misaligned_ld128, uint4*, const __nv_bfloat16*)

template <bool kRight>
__global__ void uninitialised_shared(float* out) {
  __shared__ float s[64];
  if (kRight || threadIdx.x < 32) s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
ZOO_BOTH(uninitialised_shared, float*)

__global__ void copy(float* out, const float* in) { out[threadIdx.x] = in[threadIdx.x]; }

template <bool kRight>
__global__ void dynamic_past_end(float* out) {
  SIMT_DYN_SMEM(float, s);
  s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[kRight ? (threadIdx.x + 1) % 64 : threadIdx.x + 1];
}
ZOO_BOTH(dynamic_past_end, float*)

template <bool kRight>
__global__ void unaligned_ldmatrix(uint32_t* out) {
  SIMT_DYN_SMEM(__nv_bfloat16, s);
  for (unsigned i = threadIdx.x; i < 1024; i += 32) s[i] = __float2bfloat16_rn(1.0f);
  __syncwarp();
  uint32_t words[4];
  simt::ldmatrix_x4(words, s + threadIdx.x * (kRight ? 24 : 20));
  out[threadIdx.x] = words[0];
}
ZOO_BOTH(unaligned_ldmatrix, uint32_t*)

template <bool kRight>
__global__ void local_of_another(float* out) {
  __shared__ float* of_first;
  float mine[2] = {1.0f, static_cast<float>(threadIdx.x)};
  if (threadIdx.x == 0) of_first = mine;
  __syncwarp();
  const volatile float* p = kRight ? mine : of_first;
  out[threadIdx.x] = p[threadIdx.x % 2];
  __syncwarp();
}
ZOO_BOTH(local_of_another, float*)

SIMT_DEV float recurse(volatile float* above, int depth) {
  volatile float mine[1024];
  mine[depth % 1024] = above[0] + 1.0f;
  return depth == 0 ? mine[0] : recurse(mine, depth - 1) + mine[depth % 1024];
}
template <bool kRight>
__global__ void endless_stack(float* out, int depth) {
  volatile float begin[1] = {0.0f};
  out[threadIdx.x] = recurse(begin, kRight ? 2 : depth);
}
ZOO_BOTH(endless_stack, float*, int)

template <bool kRight>
__global__ void static_and_dynamic(float* out) {
  __shared__ float s[512];
  SIMT_DYN_SMEM(float, dynamic);
  for (unsigned i = threadIdx.x; i < (kRight ? 256 : 512); i += 32) s[i] = 1;
  dynamic[threadIdx.x] = 1;
  out[threadIdx.x] = s[threadIdx.x];
}
ZOO_BOTH(static_and_dynamic, float*)

template <bool kRight>
__global__ void no_wait(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  simt::cp_async16(s + threadIdx.x * 4, in + threadIdx.x * 4, true);
  simt::cp_async_commit();
  if constexpr (kRight) simt::cp_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
  simt::cp_async_wait<0>();
}
ZOO_BOTH(no_wait, float*, const float*)

template <bool kRight>
__global__ void wait_without_barrier(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  simt::cp_async16(s + threadIdx.x * 4, in + threadIdx.x * 4, true);
  simt::cp_async_commit();
  simt::cp_async_wait<0>();
  if constexpr (kRight) __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];
}
ZOO_BOTH(wait_without_barrier, float*, const float*)

template <bool kRight>
__global__ void wait_for_too_few(float* out, const float* in) {
  __shared__ __align__(16) float s[2][128];
  for (unsigned stage = 0; stage < 2; ++stage) {
    simt::cp_async16(s[stage] + threadIdx.x * 4, in + threadIdx.x * 4, true);
    simt::cp_async_commit();
  }
  simt::cp_async_wait<kRight ? 0 : 1>();
  __syncthreads();
  out[threadIdx.x] = s[1][threadIdx.x];
  simt::cp_async_wait<0>();
}
ZOO_BOTH(wait_for_too_few, float*, const float*)

template <bool kRight>
__global__ void pending_at_exit(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  simt::cp_async16(s + threadIdx.x * 4, in + threadIdx.x * 4, true);
  simt::cp_async_commit();
  if constexpr (kRight) simt::cp_async_wait<0>();
  out[threadIdx.x] = 1;
}
ZOO_BOTH(pending_at_exit, float*, const float*)

template <bool kRight>
__global__ void copy_to_global(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  simt::cp_async16((kRight ? s : out) + threadIdx.x * 4, in + threadIdx.x * 4, true);
  simt::cp_async_commit();
  simt::cp_async_wait<0>();
}
ZOO_BOTH(copy_to_global, float*, const float*)

template <bool kRight>
__global__ void block_race(float* out) {
  out[kRight ? blockIdx.x * 64 + threadIdx.x : threadIdx.x] += static_cast<float>(blockIdx.x);
}
ZOO_BOTH(block_race, float*)

template <bool kRight>
__global__ void neighbour_blocks(float* out) {
  const float next = out[(blockIdx.x + 1) % gridDim.x * 64 + threadIdx.x];
  out[(kRight ? gridDim.x : 0) * 64 + blockIdx.x * 64 + threadIdx.x] = next;
}
ZOO_BOTH(neighbour_blocks, float*)

template <bool kRight>
__global__ void write_after_read(float* out) {
  if (blockIdx.x == 0) {
    out[threadIdx.x] = out[64 + threadIdx.x];
  } else {
    out[(kRight ? 128 : 64) + threadIdx.x] = 1;
  }
}
ZOO_BOTH(write_after_read, float*)

template <bool kRight>
__global__ void half_atomic(float* out) {
  if (kRight || threadIdx.x != 5) {
    atomicAdd(out, 1.0f);
  } else {
    *out += 1.0f;
  }
}
ZOO_BOTH(half_atomic, float*)

template <bool kRight>
__global__ void __launch_bounds__(kRight ? 128 : 64) bounded(float* out) {
  out[threadIdx.x] = 1;
}
ZOO_BOTH(bounded, float*)

}  // namespace trident::simt_tests
