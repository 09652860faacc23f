// GEMM front end of the CUDA table: cuBLASLt where it has an algorithm, else the hand-written kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/ops.h"

namespace trident::cuda {

/// Owns the cuBLASLt handle, made at the first product, and what its heuristics answered, per kind of call;
/// thread-safe. One object serves one device.
class Gemm {
 public:
  Gemm();
  ~Gemm();
  /// Throws RunError when cuBLASLt can't be initialised or fails; the message names the call and the status.
  void run(cudaStream_t, const GemmArgs&) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

}  // namespace trident::cuda
