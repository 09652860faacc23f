// Which problems the emulated cuBLASLt takes: a white list from NVIDIA's documentation, so that a call the real library
// refuses is refused here. Where the documentation is silent the list is narrow: what we do not use is not on it, and
// kernels with an extra input or output want the alignment of tensor-core kernels. A front end that passes here has its
// fallbacks exercised; it does not prove that the real heuristics answer.
//
// Sources: cuBLAS documentation 13, section cublasLtMatmul() (types, workspace, notes 6), cublasLtEpilogue_t, Tensor
// Core Usage; the comments of cublasLt.h 13.1 (attributes of the matmul descriptor).
#include "kernels/simt/cublaslt_problem.h"

namespace simt::lt {
namespace {

constexpr uint64_t kTensorAlignment = 16;

bool aligned(const void* p, uint64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

/// cublasLtMatmul(), "Datatypes Supported": the lines of CUBLAS_COMPUTE_32F with real types of 16 and 32 bits.
bool types_supported(cudaDataType ab, cudaDataType cd) {
  if (ab == CUDA_R_32F) return cd == CUDA_R_32F;
  return (ab == CUDA_R_16BF || ab == CUDA_R_16F) && (cd == ab || cd == CUDA_R_32F);
}

/// cublasLtMatmulDescAttributes_t: the bias has D's type ("Bias Type" in the same table), a bias gradient C's, the GELU
/// input D's.
bool is_type_of(int32_t type, const Layout& d) { return type == -1 || type == d.type; }

std::string epilogue_unsupported(const Problem& p) {
  const Desc& desc = p.desc;
  switch (desc.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT: return "";
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB: break;
    default: return "an epilogue that is not emulated";
  }
  if (p.has_bias() || p.has_bias_gradient()) {
    if (!is_type_of(desc.bias_type, p.d)) return "a bias or bias gradient of another type than D";
    if (!aligned(desc.bias, bytes_of(p.d.type))) return "a bias that is not aligned to its elements";
  }
  if (p.has_gelu()) {
    // CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: "Must be divisible by 8 and be no less than the number of rows".
    if (desc.aux_ld % 8 != 0 || desc.aux_ld < static_cast<int64_t>(p.m())) return "a leading dimension of AUX";
    if (!is_type_of(desc.aux_type, p.d)) return "an AUX of another type than D";
    if (!aligned(desc.aux, kTensorAlignment)) return "an AUX that is not aligned to 16 bytes";
  }
  return "";
}

}  // namespace

size_t bytes_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

std::string contradiction(const Problem& p) {
  const bool at = p.desc.transpose_a != CUBLAS_OP_N, bt = p.desc.transpose_b != CUBLAS_OP_N;
  const uint64_t b_rows = bt ? p.b.columns : p.b.rows, b_columns = bt ? p.b.rows : p.b.columns;
  if (p.m() == 0 || p.n() == 0 || p.k() == 0) return "an empty matrix";
  if ((at ? p.a.columns : p.a.rows) != p.m()) return "rows of op(A) and D";
  if (b_columns != p.n()) return "columns of op(B) and D";
  if (b_rows != p.k()) return "columns of op(A) and rows of op(B)";
  for (const Layout* l : {&p.a, &p.b, &p.c, &p.d}) {
    if (l->ld < static_cast<int64_t>(l->rows)) return "a leading dimension below the rows";
  }
  if (p.c.type != p.d.type || p.c.rows != p.d.rows || p.c.columns != p.d.columns || p.c.order != p.d.order) {
    return "C and D";
  }
  if ((p.has_bias() || p.has_bias_gradient()) && p.desc.bias == nullptr) return "no bias pointer";
  if (p.has_gelu() && p.desc.aux == nullptr) return "no AUX pointer";
  return "";
}

std::string unsupported(const Problem& p) {
  if (p.desc.compute != CUBLAS_COMPUTE_32F) return "a compute type other than CUBLAS_COMPUTE_32F";
  if (p.desc.scale != CUDA_R_32F) return "a scale type other than CUDA_R_32F";
  if (p.desc.pointer_mode != CUBLASLT_POINTER_MODE_HOST) return "a pointer mode other than host";
  for (const Layout* l : {&p.a, &p.b, &p.c, &p.d}) {
    if (l->order != CUBLASLT_ORDER_COL || l->batch != 1) return "an order other than columns, or a batch";
  }
  if (p.a.type != p.b.type || !types_supported(p.a.type, p.d.type)) return "types of A, B and D";
  return epilogue_unsupported(p);
}

uint64_t Problem::hash() const {
  uint64_t h = 14695981039346656037u;
  const auto mix = [&h](auto x) { h = (h ^ static_cast<uint64_t>(x)) * 1099511628211u; };
  for (const Layout* l : {&a, &b, &c, &d}) {
    mix(l->type), mix(l->rows), mix(l->columns), mix(l->ld), mix(l->order), mix(l->batch);
  }
  mix(desc.compute), mix(desc.scale), mix(desc.pointer_mode), mix(desc.transpose_a), mix(desc.transpose_b);
  mix(desc.epilogue), mix(desc.bias_type), mix(desc.aux_ld), mix(desc.aux_type);
  return h;
}

}  // namespace simt::lt
