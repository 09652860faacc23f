// The emulated cuBLASLt: what tests may switch and count. The library itself has NVIDIA's symbols and header.
#pragma once

#include <atomic>
#include <cstdint>

namespace simt {

struct CublasLt {
  /// Faults. The first of these many algorithms of every answer refuse to run (CUBLAS_STATUS_NOT_SUPPORTED); starts as
  /// the number in the environment variable TRIDENT_CUBLASLT_REFUSE.
  std::atomic<int> refuse_algorithms;
  std::atomic<bool> refuse_create{false};  ///< cublasLtCreate fails, as without a device
  std::atomic<bool> fail_matmul{false};    ///< cublasLtMatmul ends with CUBLAS_STATUS_EXECUTION_FAILED

  std::atomic<uint64_t> heuristics{0};  ///< questions asked
  std::atomic<uint64_t> matmuls{0};     ///< products submitted
  std::atomic<uint64_t> fused{0};       ///< of these, with another epilogue than DEFAULT and BIAS

  CublasLt();
};
extern CublasLt cublaslt;

}  // namespace simt
