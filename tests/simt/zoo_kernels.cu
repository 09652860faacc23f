#include "simt/zoo_kernels.h"

#include "kernels/cuda/cuda.h"

namespace trident::testing {
namespace {

__global__ void __launch_bounds__(1024) add_one_kernel(float* y, const float* x, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i] + 1;
}

/// Four elements a thread: the wide access is checked in every build.
__global__ void __launch_bounds__(256) add_one_wide_kernel(float* y, const float* x, int n) {
  const int i = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  uint4 v = simt::ld128(x + i);
  v.x = __float_as_uint(__uint_as_float(v.x) + 1);
  v.y = __float_as_uint(__uint_as_float(v.y) + 1);
  v.z = __float_as_uint(__uint_as_float(v.z) + 1);
  v.w = __float_as_uint(__uint_as_float(v.w) + 1);
  simt::st128(y + i, v);
}

}  // namespace

cudaError_t add_one(float* y, const float* x, int n, cudaStream_t stream) {
  return simt::launch(add_one_kernel, dim3(static_cast<unsigned>((n + 127) / 128)), dim3(128), 0, stream, y, x, n);
}

cudaError_t add_one_overrun(float* y, const float* x, int n, cudaStream_t stream) {
  return simt::launch(add_one_wide_kernel, dim3(static_cast<unsigned>(n / 512 + 1)), dim3(128), 0, stream, y, x, n + 4);
}

cudaError_t too_many_threads(cudaStream_t stream) {
  return simt::launch(add_one_kernel, dim3(1), dim3(2048), 0, stream, nullptr, nullptr, 0);
}

}  // namespace trident::testing
