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

// kernels_counters.cu
__global__ void copy_vectors_kernel(float* to, const float* from);
__global__ void copy_stride_kernel(float* to, const float* from, int stride);
__global__ void copy_halves_kernel(__nv_bfloat16* to, const __nv_bfloat16* from);
__global__ void read_twice_kernel(float* to, const float* from);
__global__ void ragged_loop_kernel(float* to, const float* from);
template <int kPitch>
__global__ void columns_kernel(float* to);
__global__ void matrices_kernel(uint32_t* to, bool swizzled);
__global__ void vectors_in_shared_kernel(float* to);
__global__ void stage_kernel(float* to, const float* from);
__global__ void multiply_kernel(float* to);

// kernels_threads.cu
/// out[t] of each 32-lane row: shuffles (idx, xor, up, down with widths 32 and 8) and votes; 8 rows of blockDim.x.
__global__ void shuffles_kernel(int* out);
/// The same intrinsics among the lanes of two masks that are in use at once.
__global__ void partial_masks_kernel(unsigned* out);
/// counts, and, or of a predicate over the block.
__global__ void barrier_results_kernel(int* out, int limit);
/// Threads above `stay` leave before the barrier.
__global__ void leave_before_barrier_kernel(float* out, unsigned stay);
/// Sums a block's numbers through dynamic shared memory.
__global__ void block_sum_kernel(float* out, const float* in);
/// Writes threadIdx and blockIdx.
__global__ void indices_kernel(uint3* threads, uint3* blocks);
/// An integer sum by atomics: any order gives the same.
__global__ void atomic_sum_kernel(unsigned* out);
/// d = a b with ldmatrix and mma; a 16x16 row major, b 16x8 row major (K rows), one warp.
template <class T>
__global__ void product_kernel(float* d, const T* a, const T* b);
/// d = a b for b of 16x32 by one row of four tiles.
template <class T>
__global__ void wide_product_kernel(float* d, const T* a, const T* b);

}  // namespace trident::simt_tests
