// Kernels for the tests of threads, warps, blocks and the tensor-core instructions.
#include "simt/kernels.h"

namespace trident::simt_tests {

constexpr unsigned kAll = 0xffffffffu;

__global__ void __launch_bounds__(64) shuffles_kernel(int* out) {
  const int x = static_cast<int>(threadIdx.x) * 10;
  const unsigned n = blockDim.x, t = threadIdx.x;
  out[0 * n + t] = __shfl_sync(kAll, x, 5);
  out[1 * n + t] = __shfl_sync(kAll, x, 3, 8);
  out[2 * n + t] = __shfl_xor_sync(kAll, x, 5);
  out[3 * n + t] = __shfl_up_sync(kAll, x, 3);
  out[4 * n + t] = __shfl_down_sync(kAll, x, 2, 8);
  out[5 * n + t] = static_cast<int>(__ballot_sync(kAll, t % 3 == 0));
  out[6 * n + t] = __any_sync(kAll, t == 40);
  out[7 * n + t] = __all_sync(kAll, t < 32);
}

__global__ void __launch_bounds__(32) partial_masks_kernel(unsigned* out) {
  const unsigned t = threadIdx.x;
  if (t < 12) {
    unsigned x = __shfl_xor_sync(0xfffu, t, 1);
    x += __ballot_sync(0xfffu, t % 2 == 0);
    out[t] = x;
  } else {
    const unsigned x = __shfl_sync(0xfffff000u, t, 12);
    out[t] = x;
  }
}

__global__ void __launch_bounds__(128) barrier_results_kernel(int* out, int limit) {
  const int p = static_cast<int>(threadIdx.x) < limit;
  const int count = __syncthreads_count(p);
  const int all = __syncthreads_and(p);
  const int any = __syncthreads_or(p);
  out[threadIdx.x] = count * 4 + all * 2 + any;
}

__global__ void __launch_bounds__(96) leave_before_barrier_kernel(float* out, unsigned stay) {
  if (threadIdx.x >= stay) return;
  __shared__ float s[96];
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = s[stay - 1 - threadIdx.x];
}

__global__ void __launch_bounds__(128) block_sum_kernel(float* out, const float* in) {
  SIMT_DYN_SMEM(float, s);
  s[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  for (unsigned width = blockDim.x / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) s[threadIdx.x] += s[threadIdx.x + width];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = s[0];
}

__global__ void indices_kernel(uint3* threads, uint3* blocks) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  threads[i] = threadIdx;
  blocks[i] = blockIdx;
}

__global__ void __launch_bounds__(64) atomic_sum_kernel(unsigned* out) {
  const unsigned before = atomicAdd(out, threadIdx.x + 1);
  atomicMax(out + 1, before == 0 ? 1u : 0u);
}

SIMT_DEV void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __nv_bfloat16) {
  simt::mma_bf16_16816(d, a, b0, b1);
}
SIMT_DEV void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half) {
  simt::mma_f16_16816(d, a, b0, b1);
}
template <int kTiles>
SIMT_DEV void multiply_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2],
                           __nv_bfloat16) {
  simt::mma_bf16_16816_row(d, a, b);
}
template <int kTiles>
SIMT_DEV void multiply_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2], __half) {
  simt::mma_f16_16816_row(d, a, b);
}

/// The fragment of a 16x16 row-major matrix in shared memory.
template <class T>
SIMT_DEV void load_a(uint32_t (&a)[4], const T* tile) {
  const unsigned lane = threadIdx.x;
  simt::ldmatrix_x4(a, tile + lane % 16 * 16 + lane / 16 * 8);
}

/// The fragments of two neighbouring 16x8 tiles of a row-major matrix with `pitch` columns: transposed on the way.
template <class T>
SIMT_DEV void load_b(uint32_t (&b)[2][2], const T* tile, unsigned pitch) {
  const unsigned lane = threadIdx.x;
  uint32_t words[4];
  simt::ldmatrix_x4_trans(words, tile + lane % 16 * pitch + lane / 16 * 8);
  b[0][0] = words[0];
  b[0][1] = words[1];
  b[1][0] = words[2];
  b[1][1] = words[3];
}

template <class T>
SIMT_DEV void store_d(float* d, const float (&tile)[4], unsigned first, unsigned pitch) {
  const unsigned row = threadIdx.x / 4, column = first + threadIdx.x % 4 * 2;
  d[row * pitch + column] = tile[0];
  d[row * pitch + column + 1] = tile[1];
  d[(row + 8) * pitch + column] = tile[2];
  d[(row + 8) * pitch + column + 1] = tile[3];
}

template <class T>
__global__ void __launch_bounds__(32) product_kernel(float* d, const T* a, const T* b) {
  __shared__ __align__(16) T a_tile[256];
  __shared__ __align__(16) T b_tile[256];  // 8 columns of b and 8 of zero: ldmatrix loads four matrices
  for (unsigned i = threadIdx.x; i < 256; i += 32) {
    a_tile[i] = a[i];
    b_tile[i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : T(0.0f);
  }
  __syncwarp();
  uint32_t a_words[4], b_words[2][2];
  load_a(a_words, a_tile);
  load_b(b_words, b_tile, 16);
  float sum[4] = {1.0f, 1.0f, 1.0f, 1.0f};  // it is added to
  multiply(sum, a_words, b_words[0][0], b_words[0][1], T{});
  store_d<T>(d, sum, 0, 8);
}
template __global__ void product_kernel<__nv_bfloat16>(float*, const __nv_bfloat16*, const __nv_bfloat16*);
template __global__ void product_kernel<__half>(float*, const __half*, const __half*);

template <class T>
__global__ void __launch_bounds__(32) wide_product_kernel(float* d, const T* a, const T* b) {
  __shared__ __align__(16) T a_tile[256];
  __shared__ __align__(16) T b_tile[512];
  for (unsigned i = threadIdx.x; i < 256; i += 32) a_tile[i] = a[i];
  for (unsigned i = threadIdx.x; i < 512; i += 32) b_tile[i] = b[i];
  __syncwarp();
  uint32_t a_words[4], b_words[4][2], pair[2][2];
  load_a(a_words, a_tile);
  for (unsigned half = 0; half < 2; ++half) {
    load_b(pair, b_tile + half * 16, 32);
    for (unsigned i = 0; i < 4; ++i) b_words[half * 2 + i / 2][i % 2] = pair[i / 2][i % 2];
  }
  float sum[4][4] = {};
  multiply_row(sum, a_words, b_words, T{});
  for (unsigned tile = 0; tile < 4; ++tile) store_d<T>(d, sum[tile], tile * 8, 32);
}
template __global__ void wide_product_kernel<__nv_bfloat16>(float*, const __nv_bfloat16*, const __nv_bfloat16*);
template __global__ void wide_product_kernel<__half>(float*, const __half*, const __half*);

}  // namespace trident::simt_tests
