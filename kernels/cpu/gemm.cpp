// GEMM front end. Three ways to multiply: bf16 and f32 on AMX tiles; oneDNN's matmul for bf16 on processors with bf16
// dot products (AVX512_BF16), where it does twice the work per cycle; our packed kernel for every dtype and processor.
// The first and the last have one order of summation each.
// Policy: prepared oneDNN primitives are kept per shape in a table; a small product is not worth the call.
#include "kernels/cpu/families.h"

#include <omp.h>

#include <array>
#include <dnnl.hpp>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "core/base/error.h"
#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/gemm_packed.h"

namespace trident::cpu {
namespace {

constexpr double kSmallFlops = 4e6;

/// Everything that a primitive depends on. The number of threads counts: oneDNN cuts the work when it prepares.
struct Key {
  std::array<int64_t, 3> mnk;
  DType dtype, c_dtype;
  bool transpose_a, transpose_b, accumulate, bias;
  int threads;

  explicit Key(const GemmArgs& args)
      : mnk{args.c_MN.dim[0], args.c_MN.dim[1], args.transpose_a ? args.a.dim[0] : args.a.dim[1]},
        dtype(args.a.dtype),
        c_dtype(args.c_MN.dtype),
        transpose_a(args.transpose_a),
        transpose_b(args.transpose_b),
        accumulate(args.accumulate),
        bias(args.bias_N.defined()),
        threads(omp_get_max_threads()) {}
  bool operator==(const Key&) const = default;
  double flops() const {
    return 2.0 * static_cast<double>(mnk[0]) * static_cast<double>(mnk[1]) * static_cast<double>(mnk[2]);
  }
};

struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t h = 14695981039346656037u;
    const auto mix = [&h](int64_t x) { h = (h ^ static_cast<uint64_t>(x)) * 1099511628211u; };
    for (const int64_t x : key.mnk) mix(x);
    mix(static_cast<int64_t>(key.dtype) << 8 | static_cast<int64_t>(key.c_dtype));
    mix(key.transpose_a | key.transpose_b << 1 | key.accumulate << 2 | key.bias << 3 | key.threads << 4);
    return h ^ h >> 32;
  }
};

dnnl::memory::data_type dnnl_type(DType t) {
  return t == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

/// rows x columns, whose memory is row-major or, transposed, column-major.
dnnl::memory::desc matrix(int64_t rows, int64_t columns, DType dtype, bool transposed) {
  const dnnl::memory::dims strides = transposed ? dnnl::memory::dims{1, rows} : dnnl::memory::dims{columns, 1};
  return {{rows, columns}, dnnl_type(dtype), strides};
}

using MatmulDesc = dnnl::matmul::primitive_desc;

/// c = a b, plus bias unless that is empty. oneDNN 3 builds a primitive's description in one step, oneDNN 2 in two.
MatmulDesc describe(const dnnl::engine& engine, const dnnl::memory::desc& a, const dnnl::memory::desc& b,
                    const dnnl::memory::desc& bias, const dnnl::memory::desc& c,
                    const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  return MatmulDesc(engine, a, b, bias, c, attributes);
#else
  return MatmulDesc(dnnl::matmul::desc(a, b, bias, c), attributes, engine);
#endif
}

/// Nothing when oneDNN has no kernel, or only its plain loops, for the call.
std::optional<MatmulDesc> prepare(const Key& key, const dnnl::engine& engine) {
  const auto [m, n, k] = key.mnk;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const dnnl::memory::desc a = matrix(m, k, key.dtype, key.transpose_a), b = matrix(k, n, key.dtype, key.transpose_b);
  const dnnl::memory::desc c = matrix(m, n, key.c_dtype, false);
  const dnnl::memory::desc bias = key.bias ? matrix(1, n, key.dtype, false) : dnnl::memory::desc();
  try {
    MatmulDesc prepared = describe(engine, a, b, bias, c, attributes);
    if (std::string(prepared.impl_info_str()).find("ref") != std::string::npos) return std::nullopt;
    return prepared;
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

struct Entry {
  std::optional<MatmulDesc> description;
  dnnl::matmul primitive;
};

void run_onednn(const Entry& entry, const dnnl::engine& engine, const GemmArgs& args) {
  const auto memory = [&engine](const dnnl::memory::desc& desc, const Tensor& t) {
    return dnnl::memory(desc, engine, t.data);
  };
  std::unordered_map<int, dnnl::memory> call = {
      {DNNL_ARG_SRC, memory(entry.description->src_desc(), args.a)},
      {DNNL_ARG_WEIGHTS, memory(entry.description->weights_desc(), args.b)},
      {DNNL_ARG_DST, memory(entry.description->dst_desc(), args.c_MN)},
      {DNNL_ARG_SCRATCHPAD, memory(entry.description->scratchpad_desc(), args.scratch)}};
  if (args.bias_N.defined()) {
    call.emplace(DNNL_ARG_BIAS, memory(matrix(1, args.bias_N.numel(), args.bias_N.dtype, false), args.bias_N));
  }
  dnnl::stream stream(engine);
  entry.primitive.execute(stream, call);
  stream.wait();
}

/// Keeps oneDNN to our own instruction set, which may not be the machine's best. Once oneDNN has begun it stays as it
/// is.
void limit_onednn() {
  if (kCompiledIsa == CpuIsa::amx) return;
  constexpr dnnl::cpu_isa kLimits[] = {dnnl::cpu_isa::avx2, dnnl::cpu_isa::avx512_core,
                                       dnnl::cpu_isa::avx512_core_bf16};
  dnnl::set_max_cpu_isa(kLimits[static_cast<size_t>(kCompiledIsa)]);
}

bool has_bf16_instructions() {
  constexpr int kCoreBf16 = static_cast<int>(dnnl::cpu_isa::avx512_core_bf16);
  return (static_cast<int>(dnnl::get_effective_cpu_isa()) & kCoreBf16) == kCoreBf16;
}

}  // namespace

struct Gemm::Table {
  explicit Table(bool onednn_f32) : f32(onednn_f32) {}

  /// The prepared primitive, or nullptr when the packed kernel shall multiply. Entries stay where they are.
  const Entry* find(const GemmArgs& args) {
    const Key key(args);
    const bool taken = key.dtype == DType::bf16 ? bf16 : key.dtype == DType::f32 && f32;
    if (!taken || key.flops() < kSmallFlops) return nullptr;
    const std::lock_guard<std::mutex> lock(mutex);
    auto found = entries.find(key);
    if (found == entries.end()) {
      Entry entry{prepare(key, engine), {}};
      if (entry.description) entry.primitive = dnnl::matmul(*entry.description);
      found = entries.emplace(key, std::move(entry)).first;
    }
    return found->second.description ? &found->second : nullptr;
  }

  bool on_tiles(const GemmArgs& args) const {
    return !(f32 && args.a.dtype == DType::f32) && Key(args).flops() >= kSmallFlops && gemm_amx_takes(args);
  }

  const bool f32, bf16 = (limit_onednn(), has_bf16_instructions());
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::mutex mutex;
  std::unordered_map<Key, Entry, KeyHash> entries;
};

Gemm::Gemm(bool onednn_f32) : table_(std::make_unique<Table>(onednn_f32)) {}
Gemm::~Gemm() = default;

void Gemm::run(const GemmArgs& args) const {
  ensure(args.scratch.bytes() >= scratch_bytes(args), "gemm: scratch holds scratch_bytes(args)");
  const bool tiles = table_->on_tiles(args);
  if (tiles) {
    gemm_amx(args);
  } else if (const Entry* entry = table_->find(args)) {
    run_onednn(*entry, table_->engine, args);
  } else {
    gemm_packed(args);
  }
  // One pass over c or dy more each. On tiles packing has summed dy on its way; the activation, done strip by strip
  // there, took longer than in a pass of its own.
  if (args.activated_MN.defined()) activation_forward(args.activation, args.activated_MN, args.c_MN);
  if (args.bias_grad_M.defined() && !tiles) bias_backward(args.bias_grad_M, args.a);
}

size_t Gemm::scratch_bytes(const GemmArgs& args) const {
  if (table_->on_tiles(args)) return gemm_amx_scratch_bytes(args);
  const Entry* entry = table_->find(args);
  return entry == nullptr ? gemm_packed_scratch_bytes(args) : entry->description->scratchpad_desc().get_size();
}

bool Gemm::uses_onednn(const GemmArgs& args) const { return table_->find(args) != nullptr; }

}  // namespace trident::cpu
