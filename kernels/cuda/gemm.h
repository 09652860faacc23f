// GEMM front end of the CUDA table: cuBLASLt where it has an algorithm, else the hand-written kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/ops.h"

namespace trident::cuda {

/// Owns the cuBLASLt handle and what its heuristics answered, per shape; thread-safe.
class Gemm {
 public:
  Gemm();
  ~Gemm();
  void run(cudaStream_t, const GemmArgs&) const;
  size_t scratch_bytes(const GemmArgs&) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
};

}  // namespace trident::cuda
