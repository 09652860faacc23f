// Small kernels for the tests of the emulated runtime.
#pragma once

#include <cuda_runtime_api.h>

namespace trident::testing {

/// y[i] = x[i] + 1 for i < n.
cudaError_t add_one(float* y, const float* x, int n, cudaStream_t);
/// As above, but one element too many.
cudaError_t add_one_overrun(float* y, const float* x, int n, cudaStream_t);
/// A launch whose block is too large.
cudaError_t too_many_threads(cudaStream_t);

}  // namespace trident::testing
