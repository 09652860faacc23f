// GEMM by cuBLASLt. Policy:
// - c is row-major and cuBLASLt column-major: it is asked for c^T = op(b)^T op(a)^T, its A being our b, its B our a,
// its
//   D our c. So the bias runs along D's rows and the activation epilogues, which exist only for column order, apply.
// - Sums are f32 in every dtype (CUBLAS_COMPUTE_32F: f32 operands are not rounded to TF32), and only reductions in the
//   compute type are allowed: the others would round partial sums to bf16.
// - The heuristics are asked once per kind of call: shape, dtypes, epilogue and alignment. Alignment counts up to 16
//   bytes, so that two tensors from one arena get the same algorithm and the same bits. The first algorithm that runs
//   is kept; NOT_SUPPORTED moves on to the next, and at the end of the list the hand-written kernel multiplies.
// - An epilogue that cuBLASLt does not offer for a call is composed of the kernel that stands for it:
//     relu and silu: RELU_AUX stores a bit mask, not c; silu does not exist;
//     gelu in f32: computed by our kernel, f32 being the yardstick;
//     any gelu or bias gradient for which the heuristics have no algorithm (odd widths, unaligned tensors).
//   BGRADB overwrites: the gradient of this call goes to scratch and is added.
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

constexpr int kCandidates = 8;

int64_t inner_of(const GemmArgs& args) { return args.transpose_a ? args.a.dim[0] : args.a.dim[1]; }

std::string describe(const GemmArgs& args) {
  return build_string("gemm ", args.c_MN.dim[0], "x", args.c_MN.dim[1], "x", inner_of(args), " ",
                      dtype_name(args.a.dtype), " -> ", dtype_name(args.c_MN.dtype), args.transpose_a ? ", a^T" : "",
                      args.transpose_b ? ", b^T" : "", args.accumulate ? ", accumulate" : "",
                      args.bias_N.defined() ? ", bias" : "", args.activated_MN.defined() ? ", activation" : "",
                      args.bias_grad_M.defined() ? ", bias gradient" : "");
}

void require(cublasStatus_t status, const GemmArgs& args, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw RunError(build_string(describe(args), ": ", call, ": ", cublasLtGetStatusName(status), " (",
                              cublasLtGetStatusString(status), ")"));
}

/// The library has no way to do this, now or on this device.
bool refuses(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH;
}

cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return CUDA_R_32F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f16: return CUDA_R_16F;
    default: throw InternalError(build_string("gemm: the CUDA table has no ", dtype_name(dtype)));
  }
}

/// Where things lie in a call's scratch.
struct Scratch {
  void* workspace;
  Tensor vector_f32;

  explicit Scratch(const GemmArgs& args) {
    const auto address = reinterpret_cast<uintptr_t>(args.scratch.data);
    const uintptr_t aligned = (address + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
    workspace = reinterpret_cast<void*>(aligned);
    vector_f32 = Tensor(reinterpret_cast<void*>(aligned + workspace_bytes(args)), DType::f32, {vector_length(args)},
                        args.c_MN.place);
  }
};

enum class Fusion : uint8_t { none, activation, bias_gradient };

/// Everything that an answer of the heuristics depends on.
struct Key {
  std::array<int64_t, 3> mnk;
  DType dtype, c_dtype;
  bool transpose_a, transpose_b, accumulate, bias;
  Fusion fusion;
  std::array<uint8_t, 5> alignment;  ///< of a, b, c, bias and activated

  Key(const GemmArgs& args, Fusion f)
      : mnk{args.c_MN.dim[0], args.c_MN.dim[1], inner_of(args)},
        dtype(args.a.dtype),
        c_dtype(args.c_MN.dtype),
        transpose_a(args.transpose_a),
        transpose_b(args.transpose_b),
        accumulate(args.accumulate),
        bias(args.bias_N.defined()),
        fusion(f) {
    const Tensor* tensors[] = {&args.a, &args.b, &args.c_MN, &args.bias_N, &args.activated_MN};
    for (size_t i = 0; i < alignment.size(); ++i) {
      const auto address = reinterpret_cast<uintptr_t>(tensors[i]->data);
      alignment[i] = static_cast<uint8_t>(std::min<uintptr_t>(16, address & (~address + 1)));
      if (address == 0) alignment[i] = 16;
    }
  }
  bool operator==(const Key&) const = default;
};

struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t h = 14695981039346656037u;
    const auto mix = [&h](int64_t x) { h = (h ^ static_cast<uint64_t>(x)) * 1099511628211u; };
    for (const int64_t x : key.mnk) mix(x);
    for (const uint8_t x : key.alignment) mix(x);
    mix(static_cast<int64_t>(key.dtype) << 16 | static_cast<int64_t>(key.c_dtype) << 8 |
        static_cast<int64_t>(key.fusion));
    mix(key.transpose_a | key.transpose_b << 1 | key.accumulate << 2 | key.bias << 3);
    return h ^ h >> 32;
  }
};

/// The algorithms for a key, best first; `first` moves on over those that would not run.
struct Entry {
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  std::atomic<size_t> first{0};
  std::atomic<bool> told{false};
};

/// Owns a cuBLASLt descriptor.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) (void)kDestroy(handle_);
  }
  Handle* out() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};
using OwnedDesc = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using OwnedLayout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using OwnedPreference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// One call in cuBLASLt's words. Made anew for each call, since it holds addresses.
class Call {
 public:
  Call(const GemmArgs& args, Fusion fusion, const Scratch& scratch) : args_(args), fusion_(fusion) {
    const int64_t m = args.c_MN.dim[0], n = args.c_MN.dim[1], k = inner_of(args);
    require(cublasLtMatmulDescCreate(desc_.out(), CUBLAS_COMPUTE_32F, CUDA_R_32F), args, "cublasLtMatmulDescCreate");
    set<cublasOperation_t>(CUBLASLT_MATMUL_DESC_TRANSA, args.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set<cublasOperation_t>(CUBLASLT_MATMUL_DESC_TRANSB, args.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_epilogue(scratch);
    layout(a_, args.b.dtype, args.transpose_b ? k : n, args.transpose_b ? n : k);
    layout(b_, args.a.dtype, args.transpose_a ? m : k, args.transpose_a ? k : m);
    layout(d_, args.c_MN.dtype, n, m);
  }

  std::vector<cublasLtMatmulAlgo_t> ask(cublasLtHandle_t handle, const Key& key) const {
    OwnedPreference preference;
    require(cublasLtMatmulPreferenceCreate(preference.out()), args_, "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      require(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value), args_,
              "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{workspace_bytes(args_)});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    const uint32_t c = fusion_ == Fusion::activation ? key.alignment[4] : key.alignment[2];
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t{key.alignment[1]});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t{key.alignment[0]});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);

    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, desc_.get(), a_.get(), b_.get(), d_.get(), d_.get(), preference.get(),
                                       kCandidates, results.data(), &count);
    if (!refuses(status)) require(status, args_, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (int i = 0; i < count; ++i) {
      const auto& result = results[static_cast<size_t>(i)];
      if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(result.algo);
    }
    return algorithms;
  }

  cublasStatus_t run(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm, void* workspace,
                     cudaStream_t stream) const {
    const float one = 1.0f, beta = args_.accumulate ? 1.0f : 0.0f;
    void* d = fusion_ == Fusion::activation ? args_.activated_MN.data : args_.c_MN.data;
    return cublasLtMatmul(handle, desc_.get(), &one, args_.b.data, a_.get(), args_.a.data, b_.get(), &beta, d, d_.get(),
                          d, d_.get(), &algorithm, workspace, workspace_bytes(args_), stream);
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    require(cublasLtMatmulDescSetAttribute(desc_.get(), attribute, &value, sizeof value), args_,
            "cublasLtMatmulDescSetAttribute");
  }

  void set_epilogue(const Scratch& scratch) {
    const bool bias = args_.bias_N.defined();
    cublasLtEpilogue_t epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (bias) {
      const bool converted = args_.bias_N.dtype != args_.c_MN.dtype;
      set<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, converted ? scratch.vector_f32.data : args_.bias_N.data);
    }
    if (fusion_ == Fusion::activation) {
      epilogue = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
      set<void*>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, args_.c_MN.data);
      set<int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, args_.c_MN.dim[1]);
    }
    if (fusion_ == Fusion::bias_gradient) {
      epilogue = CUBLASLT_EPILOGUE_BGRADB;
      set<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, scratch.vector_f32.data);
    }
    set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  }

  void layout(OwnedLayout& out, DType dtype, int64_t rows, int64_t columns) {
    require(cublasLtMatrixLayoutCreate(out.out(), type_of(dtype), static_cast<uint64_t>(rows),
                                       static_cast<uint64_t>(columns), rows),
            args_, "cublasLtMatrixLayoutCreate");
  }

  const GemmArgs& args_;
  Fusion fusion_;
  OwnedDesc desc_;
  OwnedLayout a_, b_, d_;
};

/// The epilogue to try first.
Fusion wanted(const GemmArgs& args) {
  // AUX_LD must be divisible by 8; BGRADB gives the gradient in c's type, which has to be f32.
  if (args.activated_MN.defined() && args.activation == ActivationKind::gelu_tanh && args.a.dtype != DType::f32 &&
      args.c_MN.dim[1] % 8 == 0) {
    return Fusion::activation;
  }
  const bool plain = !args.bias_N.defined() && !args.activated_MN.defined();
  if (args.bias_grad_M.defined() && plain && args.c_MN.dtype == DType::f32) return Fusion::bias_gradient;
  return Fusion::none;
}

}  // namespace

struct Gemm::Table {
  ~Table() {
    if (handle != nullptr) (void)cublasLtDestroy(handle);
  }

  /// The library's answer for a call; asks when it has not been asked. Entries stay where they are.
  Entry& find(const GemmArgs& args, const Call& call, Fusion fusion) {
    const Key key(args, fusion);
    const std::lock_guard<std::mutex> lock(mutex);
    if (handle == nullptr) require(cublasLtCreate(&handle), args, "cublasLtCreate");
    const auto found = entries.find(key);
    if (found != entries.end()) return *found->second;
    auto entry = std::make_unique<Entry>();
    entry->algorithms = call.ask(handle, key);
    return *entries.emplace(key, std::move(entry)).first->second;
  }

  /// True when cuBLASLt took the call.
  bool multiply(cudaStream_t stream, const GemmArgs& args, Fusion fusion, const Scratch& scratch) {
    const Call call(args, fusion, scratch);
    Entry& entry = find(args, call, fusion);
    for (size_t i = entry.first; i < entry.algorithms.size(); ++i) {
      const cublasStatus_t status = call.run(handle, entry.algorithms[i], scratch.workspace, stream);
      if (!refuses(status)) {
        require(status, args, "cublasLtMatmul");
        return true;
      }
      entry.first = i + 1;
    }
    if (fusion == Fusion::none && !entry.told.exchange(true)) {
      log::warn(build_string(describe(args), ": none of cuBLASLt's ", entry.algorithms.size(),
                             " algorithms runs; the hand-written kernel multiplies, which is slower"));
    }
    return false;
  }

  std::mutex mutex;
  cublasLtHandle_t handle = nullptr;
  std::unordered_map<Key, std::unique_ptr<Entry>, KeyHash> entries;
};

Gemm::Gemm() : table_(std::make_unique<Table>()) {}
Gemm::~Gemm() = default;

void Gemm::run(cudaStream_t stream, const GemmArgs& args) const {
  ensure(args.scratch.bytes() >= gemm_scratch_bytes(args), "gemm: scratch holds scratch_bytes(args)");
  Fusion done = Fusion::none;
  if (args.c_MN.numel() > 0) {
    const Scratch scratch(args);
    const Fusion fusion = inner_of(args) > 0 ? wanted(args) : Fusion::none;
    if (args.bias_N.defined() && args.bias_N.dtype != args.c_MN.dtype) {
      cuda::scale(stream, scratch.vector_f32, args.bias_N, 1.0f);
    }
    if (fusion != Fusion::none && table_->multiply(stream, args, fusion, scratch)) {
      done = fusion;
    } else if (inner_of(args) == 0 || !table_->multiply(stream, args, Fusion::none, scratch)) {
      gemm_handwritten(stream, args);  // also for K = 0, which cuBLASLt does not take
    }
    if (done == Fusion::bias_gradient) cuda::add(stream, args.bias_grad_M, scratch.vector_f32);
  }
  if (args.activated_MN.defined() && done != Fusion::activation) {
    cuda::activation_forward(stream, args.activation, args.activated_MN, args.c_MN);
  }
  if (args.bias_grad_M.defined() && done != Fusion::bias_gradient) {
    cuda::bias_backward(stream, args.bias_grad_M, args.a, args.scratch);
  }
}

}  // namespace trident::cuda

namespace trident {

std::string cublaslt_version() {
  const size_t version = cublasLtGetVersion();
  return build_string(version / 10000, '.', version / 100 % 100, '.', version % 100);
}

}  // namespace trident
