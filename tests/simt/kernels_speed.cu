// Kernels that do nothing but the one thing whose cost is measured.
#include "simt/kernels.h"

namespace trident::simt_tests {

__global__ void __launch_bounds__(256) empty_kernel(float* out) {
  if (threadIdx.x == 9999) out[0] = 1;
}
__global__ void __launch_bounds__(256) saxpy_kernel(float* out, const float* a, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = 2.0f * a[i] + out[i];
}
__global__ void __launch_bounds__(256) barrier_kernel(float* out, int times) {
  for (int i = 0; i < times; ++i) __syncthreads();
  if (threadIdx.x == 9999) out[0] = 1;
}
__global__ void __launch_bounds__(256) shuffle_kernel(float* out, int times) {
  float x = static_cast<float>(threadIdx.x);
  for (int i = 0; i < times; ++i) x += __shfl_xor_sync(simt::kFullMask, x, 1);
  if (x == -1.0f) out[0] = x;
}
__global__ void __launch_bounds__(256) mma_kernel(float* out, int times, bool half) {
  float d[4] = {};
  const uint32_t a[4] = {threadIdx.x, 2, 3, 4};
  for (int i = 0; i < times; ++i) {
    if (half) {
      simt::mma_f16_16816(d, a, 5, 6);
    } else {
      simt::mma_bf16_16816(d, a, 5, 6);
    }
  }
  if (d[0] == -1.0f) out[0] = 1;
}
__global__ void __launch_bounds__(256) mma_row_kernel(float* out, int times) {
  float d[8][4] = {};
  const uint32_t a[4] = {threadIdx.x, 2, 3, 4};
  const uint32_t b[8][2] = {};
  for (int i = 0; i < times; i += 8) simt::mma_bf16_16816_row(d, a, b);
  if (d[0][0] == -1.0f) out[0] = 1;
}
__global__ void __launch_bounds__(256) ldmatrix_kernel(float* out, int times) {
  __shared__ __align__(16) uint32_t tile[256][4];
  simt::st128(tile[threadIdx.x], uint4{1, 2, 3, 4});
  __syncwarp();
  uint32_t sum = 0;
  for (int i = 0; i < times; ++i) {
    uint32_t words[4];
    simt::ldmatrix_x4(words, tile[threadIdx.x]);
    sum += words[3];
  }
  if (sum == 1) out[0] = 1;
}

}  // namespace trident::simt_tests
