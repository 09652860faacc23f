// Kernels with a known pattern of memory accesses.
#include "simt/kernels.h"

namespace trident::simt_tests {

__global__ void __launch_bounds__(128) copy_vectors_kernel(float* to, const float* from) {
  const unsigned i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  simt::st128(to + i, simt::ld128(from + i));
}
__global__ void __launch_bounds__(128) copy_stride_kernel(float* to, const float* from, int stride) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = from[i * static_cast<unsigned>(stride)];
}
__global__ void __launch_bounds__(128) copy_halves_kernel(__nv_bfloat16* to, const __nv_bfloat16* from) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  to[i] = from[i];
}
__global__ void __launch_bounds__(128) read_twice_kernel(float* to, const float* from) {
  const unsigned i = threadIdx.x;
  to[i] = from[i];
  __syncthreads();
  to[i] = from[127 - i] + 1.0f;
}
/// Each lane runs the load a different number of times.
__global__ void __launch_bounds__(32) ragged_loop_kernel(float* to, const float* from) {
  float sum = 0;
  for (unsigned i = 0; i <= threadIdx.x; ++i) sum += from[i * 32 + threadIdx.x];
  to[threadIdx.x] = sum;
}

template <int kPitch>
__global__ void __launch_bounds__(32) columns_kernel(float* to) {
  __shared__ float tile[32 * kPitch];
  for (int row = 0; row < 32; ++row) tile[row * kPitch + static_cast<int>(threadIdx.x)] = 1.0f;
  __syncwarp();
  float sum = 0;
  for (int column = 0; column < 32; ++column) sum += tile[static_cast<int>(threadIdx.x) * kPitch + column];
  to[threadIdx.x] = sum;
}
template __global__ void columns_kernel<32>(float*);
template __global__ void columns_kernel<33>(float*);

/// 32 rows of 64 bytes; a swizzle spreads the 16-byte pieces of neighbouring rows over the banks.
__global__ void __launch_bounds__(32) matrices_kernel(uint32_t* to, bool swizzled) {
  __shared__ __align__(128) unsigned char tile[32 * 64];
  const unsigned row = threadIdx.x;
  for (unsigned piece = 0; piece < 4; ++piece) simt::st128(tile + row * 64 + piece * 16, uint4{row, row, row, row});
  __syncwarp();
  const unsigned piece = swizzled ? row / 2 % 4 : 0;
  uint32_t words[4];
  simt::ldmatrix_x4(words, tile + row * 64 + piece * 16);
  to[row] = words[0];
}

__global__ void __launch_bounds__(32) vectors_in_shared_kernel(float* to) {
  __shared__ __align__(16) float tile[128];
  simt::st128(tile + threadIdx.x * 4, uint4{0, 0, 0, 0});
  __syncwarp();
  const uint2 pair = simt::ld64(tile + threadIdx.x * 2);
  to[threadIdx.x] = __uint_as_float(pair.x);
}

__global__ void __launch_bounds__(32) stage_kernel(float* to, const float* from) {
  __shared__ __align__(16) float tile[128];
  simt::cp_async16(tile + threadIdx.x * 4, from + threadIdx.x * 4, true);
  simt::cp_async_commit();
  simt::cp_async_wait<0>();
  __syncwarp();
  to[threadIdx.x] = tile[threadIdx.x];
}

__global__ void __launch_bounds__(32) multiply_kernel(float* to) {
  float d[2][4] = {};
  const uint32_t a[4] = {}, b[2][2] = {};
  simt::mma_bf16_16816(d[0], a, 0, 0);
  simt::mma_f16_16816_row(d, a, b);
  to[threadIdx.x] = d[0][0];
}

}  // namespace trident::simt_tests
