// Attention by cuDNN's graph API, through cudnn-frontend: the one file that includes it, since it takes long to
// compile.
//
// Policy: q, k and v are read, and their gradients written, where they lie side by side in a row. lse is what cuDNN
// calls stats. The heuristics are asked once per shape and the first engine that can be built is kept: nothing is
// timed, so that a shape gets the same engine and the same bits in every run. Backward asks for the deterministic
// algorithm, and engines that cuDNN marks as nondeterministic are out.
//
// Legend: B sequences, C context, H query heads, G kv heads, K head size.
#include "kernels/cuda/attention_cudnn.h"

#include <cudnn_frontend.h>

#include <array>
#include <exception>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace trident::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using fe::graph::Tensor_attributes;
using Node = std::shared_ptr<Tensor_attributes>;
using Addresses = std::unordered_map<int64_t, void*>;

constexpr size_t kScratchAlignment = 64;  // kernels/ops.h
constexpr size_t kWorkspaceAlignment = 256;

/// What the tensors of a graph are called when it runs.
enum Name : int64_t { kQ = 1, kK, kV, kOut, kLse, kDout, kDq, kDk, kDv };

/// Thrown where a graph is built: cuDNN's words, which become the refusal.
struct Refused {
  std::string words;
};

void need(fe::error_t status) {
  if (status.is_bad()) throw Refused{status.get_message()};
}

/// cuDNN's handle and who uses it: one thread at a time.
struct Session {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;                    ///< made at the first plan; stays empty when a GPU is described
  std::shared_ptr<fe::DeviceProperties> properties;  ///< of the described GPU
  DescribedGpu gpu;

  ~Session() {
    if (handle != nullptr) (void)cudnnDestroy(handle);
  }
};

/// The tensors of one call in cuDNN's order of dimensions: batch, head, row, element.
class Shape {
 public:
  explicit Shape(const AttentionArgs& args)
      : B(args.qkv.dim[0] / args.context),
        C(args.context),
        H(args.heads),
        G(args.kv_heads),
        K(args.head_size),
        dtype_(args.qkv.dtype == DType::bf16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF) {}

  Tensor_attributes queries(Name name) const { return heads(name, H, H + 2 * G); }
  Tensor_attributes keys(Name name) const { return heads(name, G, H + 2 * G); }
  Tensor_attributes out(Name name) const { return heads(name, H, H); }
  Tensor_attributes lse() const {
    return Tensor_attributes()
        .set_uid(kLse)
        .set_dim({B, H, C, 1})
        .set_stride({H * C, C, 1, 1})
        .set_data_type(fe::DataType_t::FLOAT);
  }
  /// Makes `output`, which an operation returned, a tensor of the caller's that looks like `like`.
  static void deliver(const Node& output, const Tensor_attributes& like) {
    output->set_output(true)
        .set_uid(like.get_uid())
        .set_dim(like.get_dim())
        .set_stride(like.get_stride())
        .set_data_type(like.get_data_type());
  }

  const int64_t B, C, H, G, K;

 private:
  /// `n` heads of rows that hold `of` heads.
  Tensor_attributes heads(Name name, int64_t n, int64_t of) const {
    return Tensor_attributes()
        .set_uid(name)
        .set_dim({B, n, C, K})
        .set_stride({C * of * K, K, of * K, 1})
        .set_data_type(dtype_);
  }

  fe::DataType_t dtype_;
};

/// Before anything is added: a graph's operations copy what they find.
void begin(Graph& graph, const Session& session) {
  graph.set_intermediate_data_type(fe::DataType_t::FLOAT).set_compute_data_type(fe::DataType_t::FLOAT);
  if (!session.properties) return;
  graph.set_device_properties(session.properties).set_sm_version(session.gpu.compute_capability);
}

void describe_forward(Graph& graph, const Shape& shape, const AttentionArgs& args) {
  const auto [out, lse] =
      graph.sdpa(graph.tensor(shape.queries(kQ)), graph.tensor(shape.keys(kK)), graph.tensor(shape.keys(kV)),
                 fe::graph::SDPA_attributes()
                     .set_name("attention forward")
                     .set_generate_stats(true)
                     .set_causal_mask(args.causal)
                     .set_attn_scale(args.scale));
  Shape::deliver(out, shape.out(kOut));
  Shape::deliver(lse, shape.lse());
}

void describe_backward(Graph& graph, const Shape& shape, const AttentionArgs& args) {
  const auto [dq, dk, dv] =
      graph.sdpa_backward(graph.tensor(shape.queries(kQ)), graph.tensor(shape.keys(kK)), graph.tensor(shape.keys(kV)),
                          graph.tensor(shape.out(kOut)), graph.tensor(shape.out(kDout)), graph.tensor(shape.lse()),
                          fe::graph::SDPA_backward_attributes()
                              .set_name("attention backward")
                              .set_causal_mask(args.causal)
                              .set_attn_scale(args.scale)
                              .set_deterministic_algorithm(true));
  Shape::deliver(dq, shape.queries(kDq));
  Shape::deliver(dk, shape.keys(kDk));
  Shape::deliver(dv, shape.keys(kDv));
}

/// Finds an engine; throws Refused when there is none.
void build(Graph& graph, const Session& session) {
  need(graph.validate());
  need(session.properties ? graph.build_operation_graph() : graph.build_operation_graph(session.handle));
  need(graph.create_execution_plans({fe::HeurMode_t::A}));
  graph.deselect_numeric_notes({fe::NumericalNote_t::NONDETERMINISTIC});
  need(graph.check_support());
  need(graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE));
}

/// Workspace, and room to align it.
size_t scratch_of(const Graph& graph) {
  const int64_t bytes = graph.get_workspace_size();
  return bytes <= 0 ? 0 : static_cast<size_t>(bytes) + kWorkspaceAlignment - kScratchAlignment;
}

void* aligned(const Tensor& scratch) {
  const auto address = reinterpret_cast<uintptr_t>(scratch.data);
  return reinterpret_cast<void*>((address + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment);
}

/// The first lines of what the frontend says, which may be pages, as one.
std::string shortened(const std::string& words) {
  constexpr size_t kMost = 240;
  std::string text;
  for (const char c : words.substr(0, kMost)) text += c == '\n' ? ' ' : c;
  return words.size() > kMost ? text + "..." : text;
}

class Plan final : public CudnnPlan {
 public:
  Plan(Session& session, const AttentionArgs& args) : session_(session), shape_(args) {
    begin(forward_, session);
    describe_forward(forward_, shape_, args);
    build(forward_, session);
    begin(backward_, session);
    describe_backward(backward_, shape_, args);
    build(backward_, session);
    forward_bytes_ = scratch_of(forward_);
    backward_bytes_ = scratch_of(backward_);
  }

  size_t forward_bytes() const override { return forward_bytes_; }
  size_t backward_bytes() const override { return backward_bytes_; }

  void forward(cudaStream_t stream, const AttentionArgs& args) override {
    Addresses addresses = {{kOut, args.out.data}, {kLse, args.lse.data}};
    add_parts(addresses, args.qkv, {kQ, kK, kV});
    run(forward_, stream, addresses, args.scratch, forward_bytes_, "attention_forward");
  }

  void backward(cudaStream_t stream, const AttentionBackwardArgs& args) override {
    const AttentionArgs& f = args.forward;
    Addresses addresses = {{kOut, f.out.data}, {kLse, f.lse.data}, {kDout, args.dout.data}};
    add_parts(addresses, f.qkv, {kQ, kK, kV});
    add_parts(addresses, args.dqkv, {kDq, kDk, kDv});
    run(backward_, stream, addresses, args.scratch, backward_bytes_, "attention_backward");
  }

 private:
  /// Query heads, key heads, value heads: where the three parts of a row begin.
  void add_parts(Addresses& addresses, const Tensor& qkv, const std::array<Name, 3>& names) const {
    char* const base = static_cast<char*>(qkv.data);
    const int64_t head = shape_.K * static_cast<int64_t>(dtype_bytes(qkv.dtype));
    addresses[names[0]] = base;
    addresses[names[1]] = base + shape_.H * head;
    addresses[names[2]] = base + (shape_.H + shape_.G) * head;
  }

  void run(Graph& graph, cudaStream_t stream, Addresses& addresses, const Tensor& scratch, size_t bytes,
           const char* operation) {
    ensure(session_.handle != nullptr, "a plan for a described GPU does not run");
    ensure(scratch.bytes() >= bytes, "attention: scratch holds scratch_bytes(args)");
    const std::lock_guard lock(session_.mutex);
    const cudnnStatus_t set = cudnnSetStream(session_.handle, stream);
    if (set != CUDNN_STATUS_SUCCESS) {
      throw RunError(build_string(operation, ", cuDNN: cudnnSetStream: ", cudnnGetErrorString(set)));
    }
    fe::error_t status = graph.execute(session_.handle, addresses, aligned(scratch));
    if (status.is_bad()) throw RunError(build_string(operation, ", cuDNN: ", status.get_message()));
  }

  Session& session_;
  const Shape shape_;
  Graph forward_, backward_;
  size_t forward_bytes_ = 0, backward_bytes_ = 0;
};

class Cudnn final : public CudnnLibrary {
 public:
  explicit Cudnn(const DescribedGpu& gpu) { session_.gpu = gpu; }

  std::unique_ptr<CudnnPlan> plan(const AttentionArgs& args, std::string& refusal) override {
    const std::lock_guard lock(session_.mutex);
    try {
      start();
      return std::make_unique<Plan>(session_, args);
    } catch (const Refused& refused) {
      refusal = build_string("cuDNN ", cudnn_version(), " says: ", shortened(refused.words));
    } catch (const std::exception& e) {  // the frontend throws where it can't return a status
      refusal = build_string("cuDNN ", cudnn_version(), " says: ", shortened(e.what()));
    }
    return nullptr;
  }

 private:
  void start() {
    if (session_.handle != nullptr || session_.properties) return;
    if (session_.gpu.json.empty()) {
      const cudnnStatus_t status = cudnnCreate(&session_.handle);
      if (status == CUDNN_STATUS_SUCCESS) return;
      session_.handle = nullptr;
      throw Refused{build_string("cudnnCreate: ", cudnnGetErrorString(status))};
    }
    auto properties = std::make_shared<fe::DeviceProperties>();
    need(properties->deserialize({session_.gpu.json.begin(), session_.gpu.json.end()}));
    session_.properties = std::move(properties);
  }

  Session session_;
};

}  // namespace

std::unique_ptr<CudnnLibrary> make_cudnn() { return make_cudnn(DescribedGpu{}); }
std::unique_ptr<CudnnLibrary> make_cudnn(const DescribedGpu& gpu) { return std::make_unique<Cudnn>(gpu); }

std::string cudnn_version() {
  const size_t version = cudnnGetVersion();  // 91900 for 9.19.0
  return build_string(version / 10000, '.', version % 10000 / 100, '.', version % 100);
}

}  // namespace trident::cuda
