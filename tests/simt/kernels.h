// The kernels of the emulator's own tests. They live in .cu files, which are built like the product's kernels:
// instrumented in checked mode.
#pragma once

#include "kernels/cuda/cuda.h"

namespace trident::simt_tests {

// kernels_speed.cu
__global__ void empty_kernel(float* out);
__global__ void saxpy_kernel(float* out, const float* a, int n);
__global__ void barrier_kernel(float* out, int times);
__global__ void shuffle_kernel(float* out, int times);
__global__ void mma_kernel(float* out, int times, bool half);
__global__ void mma_row_kernel(float* out, int times);
__global__ void ldmatrix_kernel(float* out, int times);

}  // namespace trident::simt_tests
