// Inside the emulated cuBLASLt: what stands behind its opaque handles, which problems it takes, and the arithmetic.
//
// Legend: cuBLASLt's own letters. D = op(A) op(B) + beta C, column-major; m x n rows and columns of D, k the inner
// dimension.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace simt::lt {

struct Layout {
  cudaDataType type = CUDA_R_32F;
  uint64_t rows = 0, columns = 0;
  int64_t ld = 0;
  int32_t order = CUBLASLT_ORDER_COL, batch = 1;
};

struct Desc {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType scale = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  ///< or where a bias gradient goes
  int32_t bias_type = -1;
  void* aux = nullptr;
  int64_t aux_ld = 0;
  int32_t aux_type = -1;
};

struct Preference {
  uint32_t search = CUBLASLT_SEARCH_BEST_FIT;
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<uint32_t, 4> alignment{256, 256, 256, 256};  ///< of A, B, C, D
};

struct Problem {
  Desc desc;
  Layout a, b, c, d;

  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.columns; }
  uint64_t k() const { return desc.transpose_a == CUBLAS_OP_N ? a.columns : a.rows; }
  bool has_bias() const {
    return desc.epilogue == CUBLASLT_EPILOGUE_BIAS || desc.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  bool has_gelu() const {
    return desc.epilogue == CUBLASLT_EPILOGUE_GELU_AUX || desc.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  bool has_bias_gradient() const {
    return desc.epilogue == CUBLASLT_EPILOGUE_BGRADA || desc.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  }
  /// Everything but the addresses, as one number.
  uint64_t hash() const;
};

size_t bytes_of(cudaDataType);

/// Why the shapes contradict each other (CUBLAS_STATUS_INVALID_VALUE); "" when they don't.
std::string contradiction(const Problem&);
/// Which line of the documentation leaves this problem out (CUBLAS_STATUS_NOT_SUPPORTED); "" when none does.
std::string unsupported(const Problem&);

/// The addresses of one product. `partial_sums` holds m * n floats when K is split in two, else it is null.
struct Addresses {
  const void *a, *b, *c;
  void* d;
  float beta;
  float* partial_sums;
};
/// D, and what the epilogue makes besides.
void multiply(const Problem&, const Addresses&);

}  // namespace simt::lt
