// The bug zoo: kernels with one mistake each, all valid CUDA that nvcc compiles without a word. Instantiated with true,
// the same kernel has the mistake corrected.
#pragma once

#include "kernels/cuda/cuda.h"

namespace trident::simt_tests {

// Between the threads of a block
template <bool kRight>
__global__ void missing_sync(float* out);
template <bool kRight>
__global__ void missing_syncwarp(float* out);
template <bool kRight>
__global__ void refill_in_use(float* out, const float* in);
template <bool kRight>
__global__ void overwrite_in_warp(float* out);
template <bool kRight>
__global__ void divergent_barrier(float* out);
template <bool kRight>
__global__ void warps_at_different_barriers(float* out);
template <bool kRight>
__global__ void barrier_in_branch(float* out);
template <bool kRight>
__global__ void early_exit(float* out);

// Warp intrinsics
template <bool kRight>
__global__ void shuffle_inactive(float* out);
template <bool kRight>
__global__ void shuffle_divergent(float* out);
template <bool kRight>
__global__ void wrong_mask(float* out);
template <bool kRight>
__global__ void mma_in_branch(float* out);

// Memory
template <bool kRight>
__global__ void read_past_end(float* out, const float* in, int n);
template <bool kRight>
__global__ void write_past_end(float* out, int n);
template <bool kRight>
__global__ void vector_past_end(float* out, const float* in);
template <bool kRight>
__global__ void misaligned_float4(float4* out, const float* in);
template <bool kRight>
__global__ void misaligned_ld128(uint4* out, const __nv_bfloat16* in);
template <bool kRight>
__global__ void uninitialised_shared(float* out);
__global__ void copy(float* out, const float* in);
template <bool kRight>
__global__ void dynamic_past_end(float* out);
template <bool kRight>
__global__ void unaligned_ldmatrix(uint32_t* out);
template <bool kRight>
__global__ void local_of_another(float* out);
template <bool kRight>
__global__ void endless_stack(float* out, int depth);
template <bool kRight>
__global__ void static_and_dynamic(float* out);

// cp.async
template <bool kRight>
__global__ void no_wait(float* out, const float* in);
template <bool kRight>
__global__ void wait_without_barrier(float* out, const float* in);
template <bool kRight>
__global__ void wait_for_too_few(float* out, const float* in);
template <bool kRight>
__global__ void pending_at_exit(float* out, const float* in);
template <bool kRight>
__global__ void copy_to_global(float* out, const float* in);

// Between blocks
template <bool kRight>
__global__ void block_race(float* out);
template <bool kRight>
__global__ void neighbour_blocks(float* out);
template <bool kRight>
__global__ void write_after_read(float* out);
template <bool kRight>
__global__ void half_atomic(float* out);
template <bool kRight>
__global__ void bounded(float* out);

}  // namespace trident::simt_tests
