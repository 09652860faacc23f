// What every launcher shares.
#pragma once

#include <algorithm>

#include "core/base/error.h"
#include "core/base/integer.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"

namespace trident::cuda {

/// Throws RunError naming the operation when a launch was refused.
inline void check_launch(cudaError_t error, const char* operation) {
  if (error == cudaSuccess) return;
  throw RunError(build_string(operation, ": the kernel could not be launched: ", cudaGetErrorString(error)));
}

template <class T>
struct TypeTag {
  using type = T;
};

/// Calls f(TypeTag<float | __nv_bfloat16 | __half>) for a compute dtype.
template <class F>
void with_float(DType dtype, F f) {
  switch (dtype) {
    case DType::f32: return f(TypeTag<float>{});
    case DType::bf16: return f(TypeTag<__nv_bfloat16>{});
    case DType::f16: return f(TypeTag<__half>{});
    default: ensure(false, "the CUDA kernels compute in f32, bf16 and f16 only");
  }
}

/// A tensor's address as the CUDA type of its elements.
template <class T>
T* at(const Tensor& t) {
  return static_cast<T*>(t.data);
}

/// True when 16-byte accesses to whole rows are legal: address and row length are multiples of 16 bytes.
inline bool vectorizable(const Tensor& t, int64_t row_elements) {
  return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 &&
         static_cast<size_t>(row_elements) * dtype_bytes(t.dtype) % 16 == 0;
}

}  // namespace trident::cuda
