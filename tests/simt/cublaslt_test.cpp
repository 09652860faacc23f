// The emulated cuBLASLt refuses what the documentation of the real one leaves out, with the real one's status.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <functional>

#include "kernels/simt/cublaslt.h"
#include "support/catch.h"

namespace {

/// One question to the heuristics, right to begin with: bf16 128 x 64 x 96, D in bf16, everything aligned.
struct Question {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType a = CUDA_R_16BF, b = CUDA_R_16BF, c = CUDA_R_16BF, d = CUDA_R_16BF;
  int64_t m = 128, n = 64, k = 96, b_rows = 96, d_ld = 128;
  int32_t order = CUBLASLT_ORDER_COL;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  uintptr_t bias = 0, aux = 0;
  int32_t bias_type = -1;
  int64_t aux_ld = 0;
  uint64_t workspace = 0;
  uint32_t alignment = 16, reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  std::array<cublasLtMatmulHeuristicResult_t, 4> results{};
  int count = 0;

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  std::array<cublasLtMatrixLayout_t, 4> layouts{};
  cublasLtMatmulPreference_t preference = nullptr;

  ~Question() {
    for (cublasLtMatrixLayout_t layout : layouts) (void)cublasLtMatrixLayoutDestroy(layout);
    (void)cublasLtMatmulPreferenceDestroy(preference);
    (void)cublasLtMatmulDescDestroy(desc);
    if (handle != nullptr) (void)cublasLtDestroy(handle);
  }

  void ask() {
    REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulDescCreate(&desc, compute, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
      REQUIRE(cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS);
    };
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<void*>(bias));
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, reinterpret_cast<void*>(aux));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux_ld);
    const auto layout = [&](size_t i, cudaDataType type, int64_t rows, int64_t columns, int64_t ld) {
      REQUIRE(cublasLtMatrixLayoutCreate(&layouts[i], type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                                         ld) == CUBLAS_STATUS_SUCCESS);
    };
    layout(0, a, m, k, m), layout(1, b, b_rows, n, b_rows), layout(2, c, m, n, d_ld), layout(3, d, m, n, d_ld);
    for (const size_t i : {2, 3}) {
      REQUIRE(cublasLtMatrixLayoutSetAttribute(layouts[i], CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order) ==
              CUBLAS_STATUS_SUCCESS);
    }
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      REQUIRE(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value) ==
              CUBLAS_STATUS_SUCCESS);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      prefer(attribute, alignment);
    }
    status = cublasLtMatmulAlgoGetHeuristic(handle, desc, layouts[0], layouts[1], layouts[2], layouts[3], preference, 4,
                                            results.data(), &count);
  }

  cublasStatus_t run(const cublasLtMatmulAlgo_t& algo, void* workspace_at, cudaStream_t stream) const {
    const float one = 1, zero = 0;
    void* at = reinterpret_cast<void*>(uintptr_t{256});  // never read: these calls are refused before they run
    return cublasLtMatmul(handle, desc, &one, at, layouts[0], at, layouts[1], &zero, at, layouts[2], at, layouts[3],
                          &algo, workspace_at, workspace, stream);
  }
};

/// The status and number of algorithms after a change to the right question.
std::pair<cublasStatus_t, int> answer(const std::function<void(Question&)>& change) {
  Question question;
  change(question);
  question.ask();
  return {question.status, question.count};
}

constexpr auto kSuccess = CUBLAS_STATUS_SUCCESS, kUnsupported = CUBLAS_STATUS_NOT_SUPPORTED,
               kInvalid = CUBLAS_STATUS_INVALID_VALUE;

void gelu(Question& q) {
  q.epilogue = CUBLASLT_EPILOGUE_GELU_AUX;
  q.aux = 256;
  q.aux_ld = 128;
}

void bias(Question& q, uint32_t epilogue) {
  q.epilogue = epilogue;
  q.bias = 256;
}

}  // namespace

TEST_CASE("cuBLASLt: what is offered depends on alignment and workspace", "[cublaslt]") {
  CHECK(answer([](Question&) {}) == std::pair(kSuccess, 2));
  CHECK(answer([](Question& q) { q.workspace = 1 << 20; }) == std::pair(kSuccess, 3));
  CHECK(answer([](Question& q) { q.workspace = 1 << 20, q.reductions = CUBLASLT_REDUCTION_SCHEME_INPLACE; }) ==
        std::pair(kSuccess, 2));
  CHECK(answer([](Question& q) { q.alignment = 2; }) == std::pair(kSuccess, 1));
  CHECK(answer(gelu) == std::pair(kSuccess, 1));
  CHECK(answer([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BIAS); }) == std::pair(kSuccess, 2));
  CHECK(answer([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BGRADB); }) == std::pair(kSuccess, 1));
}

TEST_CASE("cuBLASLt: what the documentation leaves out is not supported", "[cublaslt]") {
  const auto unsupported = [](const std::function<void(Question&)>& change) {
    CHECK(answer(change) == std::pair(kUnsupported, 0));
  };
  unsupported([](Question& q) { q.compute = CUBLAS_COMPUTE_16F; });
  unsupported([](Question& q) { q.compute = CUBLAS_COMPUTE_32F_FAST_TF32; });
  unsupported([](Question& q) { q.b = CUDA_R_16F; });
  unsupported([](Question& q) { q.c = q.d = CUDA_R_16F; });
  unsupported([](Question& q) { q.a = q.b = CUDA_R_32F; });
  unsupported([](Question& q) { q.order = CUBLASLT_ORDER_COL32; });
  unsupported([](Question& q) { q.epilogue = CUBLASLT_EPILOGUE_RELU_AUX; });
  unsupported([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BIAS), q.bias_type = CUDA_R_32F; });
  unsupported([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BIAS), q.bias = 257; });
  unsupported([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BGRADB), q.bias_type = CUDA_R_32F; });
  unsupported([](Question& q) { bias(q, CUBLASLT_EPILOGUE_BGRADB), q.alignment = 2; });
  unsupported([](Question& q) { gelu(q), q.aux_ld = 130; });
  unsupported([](Question& q) { gelu(q), q.aux = 258; });
  unsupported([](Question& q) { gelu(q), q.alignment = 8; });
}

TEST_CASE("cuBLASLt: contradictions are invalid values", "[cublaslt]") {
  const auto invalid = [](const std::function<void(Question&)>& change) {
    CHECK(answer(change) == std::pair(kInvalid, 0));
  };
  invalid([](Question& q) { q.b_rows = 95; });
  invalid([](Question& q) { q.d_ld = 127; });
  invalid([](Question& q) { q.m = 0; });
  invalid([](Question& q) { q.c = CUDA_R_32F; });
  invalid([](Question& q) { q.epilogue = CUBLASLT_EPILOGUE_BIAS; });
  invalid([](Question& q) { q.epilogue = CUBLASLT_EPILOGUE_GELU_AUX, q.aux_ld = 128; });
}

TEST_CASE("cuBLASLt: a product needs its own algorithm and an aligned, big enough workspace", "[cublaslt]") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  Question question, other;
  question.workspace = 1 << 20;
  question.ask();
  other.m = other.d_ld = 256;
  other.ask();
  REQUIRE(question.count == 3);
  void* aligned = reinterpret_cast<void*>(uintptr_t{4096});
  void* unaligned = reinterpret_cast<void*>(uintptr_t{4096 + 64});
  CHECK(question.run(other.results[0].algo, aligned, stream) == kInvalid);
  CHECK(question.run(question.results[0].algo, unaligned, stream) == kInvalid);
  question.workspace = 1;
  CHECK(question.run(question.results[0].algo, aligned, stream) == kInvalid);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}
