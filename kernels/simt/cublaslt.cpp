// cuBLASLt on the emulated device: NVIDIA's header and symbols, descriptors of our own behind the handles. A product
// runs as one operation of its stream, whose reads and writes of device memory the race detector sees.
//
// Policy: the rules of cublaslt_problem.cpp decide what is answered. Three algorithms exist, as far as a problem allows
// them: one that splits K and needs a workspace, one for operands aligned to 16 bytes, one for any. An algorithm runs
// only the problem it was found for. Calls that leave the documented contract in a way the real library would not
// notice (an address less aligned than the heuristics were told) end in an Error.
#include "kernels/simt/cublaslt.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/simt/cublaslt_problem.h"
#include "kernels/simt/runtime.h"
#include "kernels/simt/streams.h"

struct cublasLtContext {};

namespace simt {

CublasLt cublaslt;

CublasLt::CublasLt() : refuse_algorithms(0) {
  if (const char* n = std::getenv("TRIDENT_CUBLASLT_REFUSE")) refuse_algorithms = std::atoi(n);
}

namespace lt {
namespace {

/// What lies in a cublasLtMatmulAlgo_t.
struct Algorithm {
  uint64_t problem;  ///< Problem::hash
  uint64_t place;    ///< in the answer it came from
  uint64_t alignment, workspace;
  bool split;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

Desc& of(cublasLtMatmulDesc_t d) { return *reinterpret_cast<Desc*>(d); }
Layout& of(cublasLtMatrixLayout_t l) { return *reinterpret_cast<Layout*>(l); }
Preference& of(cublasLtMatmulPreference_t p) { return *reinterpret_cast<Preference*>(p); }

template <class Field>
cublasStatus_t set(Field& field, const void* buffer, size_t bytes) {
  if (buffer == nullptr || bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, buffer, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

Problem problem_of(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                   cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  return {of(desc), of(a), of(b), of(c), of(d)};
}

/// The algorithms for a supported problem, fastest first.
std::vector<Algorithm> algorithms(const Problem& p, const Preference& preference) {
  const uint32_t promised = *std::min_element(preference.alignment.begin(), preference.alignment.end());
  const auto wide = [](const Layout& l) { return static_cast<uint64_t>(l.ld) * bytes_of(l.type) % 16 == 0; };
  const bool tensor = promised >= 16 && wide(p.a) && wide(p.b) && wide(p.d);
  const uint64_t partial = p.m() * p.n() * sizeof(float);
  std::vector<Algorithm> list;
  const bool plain = !p.has_gelu() && !p.has_bias_gradient();
  if (tensor && plain && p.k() >= 64 && partial <= preference.workspace &&
      (preference.reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0) {
    list.push_back({.alignment = 16, .workspace = partial, .split = true});
  }
  if (tensor) list.push_back({.alignment = 16});
  if (plain && promised >= bytes_of(p.a.type)) list.push_back({.alignment = bytes_of(p.a.type)});
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].problem = p.hash();
    list[i].place = i;
  }
  return list;
}

void require_aligned(const void* address, uint64_t bytes, const char* name) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    throw Error(std::string("cublasLtMatmul: ") + name +
                " is less aligned than cublasLtMatmulAlgoGetHeuristic was told");
  }
}

/// Marks a matrix's columns as read or written by this operation.
void touch(const void* base, const Layout& l, int64_t ld, bool write, const char* name) {
  const size_t element = bytes_of(l.type), column = l.rows * element;
  if (static_cast<uint64_t>(ld) == l.rows) return dev_op_access(base, column * l.columns, write, name);
  for (uint64_t i = 0; i < l.columns; ++i) {
    dev_op_access(static_cast<const char*>(base) + i * static_cast<uint64_t>(ld) * element, column, write, name);
  }
}

/// The operation on the stream.
void run(const Problem& p, const Addresses& at) {
  const size_t element = bytes_of(p.d.type);
  touch(at.a, p.a, p.a.ld, false, "cublasLtMatmul A");
  touch(at.b, p.b, p.b.ld, false, "cublasLtMatmul B");
  if (at.beta != 0) touch(at.c, p.c, p.c.ld, false, "cublasLtMatmul C");
  if (p.has_bias()) dev_op_access(p.desc.bias, p.m() * element, false, "cublasLtMatmul bias");
  if (at.partial_sums != nullptr) {
    dev_op_access(at.partial_sums, p.m() * p.n() * sizeof(float), true, "cublasLtMatmul workspace");
  }
  touch(at.d, p.d, p.d.ld, true, "cublasLtMatmul D");
  if (p.has_gelu()) touch(p.desc.aux, p.d, p.desc.aux_ld, true, "cublasLtMatmul AUX");
  if (p.has_bias_gradient()) {
    const bool of_a = p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    dev_op_access(p.desc.bias, (of_a ? p.m() : p.n()) * element, true, "cublasLtMatmul bias gradient");
  }
  multiply(p, at);
}

}  // namespace
}  // namespace lt
}  // namespace simt

using namespace simt;
using namespace simt::lt;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (cublaslt.refuse_create) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return handle == nullptr ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return CUBLAS_VERSION; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "unknown cublasStatus_t";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  if (desc == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *desc = reinterpret_cast<cublasLtMatmulDesc_t>(new Desc{.compute = compute, .scale = scale});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete reinterpret_cast<Desc*>(desc);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* buffer, size_t bytes) {
  Desc& d = of(desc);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return set(d.pointer_mode, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(d.transpose_a, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(d.transpose_b, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(d.epilogue, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(d.bias, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(d.bias_type, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(d.aux, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(d.aux_ld, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: return set(d.aux_type, buffer, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  if (layout == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, ld});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete reinterpret_cast<Layout*>(layout);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* buffer,
                                                size_t bytes) {
  Layout& l = of(layout);
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return set(l.order, buffer, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return set(l.batch, buffer, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Preference*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* buffer,
                                                    size_t bytes) {
  Preference& p = of(preference);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE: return set(p.search, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(p.workspace, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(p.reductions, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(p.alignment[0], buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(p.alignment[1], buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(p.alignment[2], buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(p.alignment[3], buffer, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0 || results == nullptr || returned == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *returned = 0;
  ++cublaslt.heuristics;
  const Problem p = problem_of(desc, a, b, c, d);
  if (!contradiction(p).empty()) return CUBLAS_STATUS_INVALID_VALUE;
  if (!unsupported(p).empty()) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const Algorithm& algorithm : algorithms(p, of(preference))) {
    if (*returned == requested) break;
    cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
    result = {};
    std::memcpy(&result.algo, &algorithm, sizeof algorithm);
    result.workspaceSize = algorithm.workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1.0f;
  }
  return *returned == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Problem p = problem_of(desc, a_layout, b_layout, c_layout, d_layout);
  if (alpha == nullptr || beta == nullptr || algo == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof algorithm);
  if (!contradiction(p).empty() || algorithm.problem != p.hash()) return CUBLAS_STATUS_INVALID_VALUE;
  if (workspace_bytes < algorithm.workspace || reinterpret_cast<uintptr_t>(workspace) % 256 != 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // alpha is not emulated: nothing scales a product.
  const float scale_of_c = *static_cast<const float*>(beta);
  if (!unsupported(p).empty() || *static_cast<const float*>(alpha) != 1.0f) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (algorithm.place < static_cast<uint64_t>(cublaslt.refuse_algorithms)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (cublaslt.fail_matmul) return CUBLAS_STATUS_EXECUTION_FAILED;
  require_aligned(a, algorithm.alignment, "A");
  require_aligned(b, algorithm.alignment, "B");
  require_aligned(c, algorithm.alignment, "C");
  require_aligned(d, algorithm.alignment, "D");
  const Addresses at{a, b, c, d, scale_of_c, algorithm.split ? static_cast<float*>(workspace) : nullptr};
  if (stream_push(stream, "cublasLtMatmul", [p, at] { run(p, at); }) != cudaSuccess) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  ++cublaslt.matmuls;
  if (p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.desc.epilogue != CUBLASLT_EPILOGUE_BIAS) ++cublaslt.fused;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
