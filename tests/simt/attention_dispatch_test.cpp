// Who computes a call: a stand-in for cuDNN that counts its calls and hands them to our own kernels.
#include "kernels/cuda/attention_dispatch.h"

#include <string>

#include "core/base/error.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/families.h"
#include "support/catch.h"

namespace trident {
namespace {

struct Counts {
  int plans = 0, forwards = 0, backwards = 0;
};

class CountingPlan final : public cuda::CudnnPlan {
 public:
  explicit CountingPlan(Counts& counts) : counts_(counts) {}
  size_t forward_bytes() const override { return 448; }
  size_t backward_bytes() const override { return 1024; }
  void forward(cudaStream_t, const AttentionArgs&) override { ++counts_.forwards; }
  void backward(cudaStream_t, const AttentionBackwardArgs&) override { ++counts_.backwards; }

 private:
  Counts& counts_;
};

class CountingLibrary final : public cuda::CudnnLibrary {
 public:
  explicit CountingLibrary(Counts& counts) : counts_(counts) {}
  std::unique_ptr<cuda::CudnnPlan> plan(const AttentionArgs& args, std::string& refusal) override {
    ++counts_.plans;
    if (args.context != 1) return std::make_unique<CountingPlan>(counts_);
    refusal = "s_q = s_kv = 1 is not supported.";
    return nullptr;
  }

 private:
  Counts& counts_;
};

/// Device memory for one call; the tensors begin `off` elements into it.
class Call {
 public:
  explicit Call(int64_t context, int64_t off = 0) {
    constexpr int64_t kHeads = 2, kSize = 64;
    REQUIRE(cudaMalloc(&memory_, size_t{1} << 22) == cudaSuccess);
    REQUIRE(cudaMemset(memory_, 0, size_t{1} << 22) == cudaSuccess);
    AttentionArgs& f = args.forward;
    f.context = context, f.heads = f.kv_heads = f.heads_total = kHeads, f.head_size = kSize, f.scale = 0.125f;
    f.qkv = take(DType::bf16, {context, 3 * kHeads * kSize}, off);
    f.out = take(DType::bf16, {context, kHeads * kSize}, off);
    f.lse = take(DType::f32, {1, kHeads, context}, 0);
    args.dqkv = take(DType::bf16, {context, 3 * kHeads * kSize}, off);
    args.dout = take(DType::bf16, {context, kHeads * kSize}, off);
    args.scratch = take(DType::u8, {int64_t{1} << 21}, 0);
  }
  ~Call() {
    (void)cudaDeviceSynchronize();
    (void)cudaFree(memory_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  AttentionBackwardArgs args;

 private:
  Tensor take(DType dtype, std::initializer_list<int64_t> shape, int64_t off) {
    Tensor t(static_cast<char*>(memory_) + used_ + off * static_cast<int64_t>(dtype_bytes(dtype)), dtype, shape,
             Place::device);
    used_ += (static_cast<int64_t>(t.bytes()) + 255 + 64) / 256 * 256;
    return t;
  }

  void* memory_ = nullptr;
  int64_t used_ = 0;
};

struct Both {
  explicit Both(AttentionKernel wanted) : dispatch(wanted, std::make_unique<CountingLibrary>(counts)) {
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  }
  ~Both() { (void)cudaStreamDestroy(stream); }
  void run(const Call& call) const {
    dispatch.forward(stream, call.args.forward);
    dispatch.backward(stream, call.args);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  }
  cudaStream_t stream = nullptr;
  Counts counts;
  cuda::AttentionDispatch dispatch;
};

}  // namespace

TEST_CASE("a shape is planned once, for both directions", "[dispatch]") {
  Both both(AttentionKernel::automatic);
  const Call call(16), longer(32);
  CHECK(both.dispatch.choose(call.args.forward).cudnn);
  CHECK(both.dispatch.scratch_bytes(call.args.forward) == cudnn_forward_bytes(call.args.forward));
  CHECK(both.dispatch.scratch_bytes(call.args) == cudnn_backward_bytes(call.args.forward));
  for (int i = 0; i < 3; ++i) both.run(call);
  CHECK(both.counts.plans == 1);
  CHECK(both.counts.forwards == 3);
  CHECK(both.counts.backwards == 3);
  both.run(longer);
  CHECK(both.counts.plans == 2);
}

TEST_CASE("calls that cuDNN can't take run on our own kernels, within the planned scratch", "[dispatch]") {
  Both both(AttentionKernel::automatic);
  const Call off(16, 1), single(1);
  CHECK(both.dispatch.choose(off.args.forward).cudnn);  // of the shape; this call's tensors are not aligned
  both.run(off);
  Call drops(16);
  drops.args.forward.dropout = 0.5f;
  CHECK_FALSE(both.dispatch.choose(drops.args.forward).cudnn);
  CHECK(both.dispatch.scratch_bytes(drops.args) == cuda::attention_scratch_bytes(drops.args));
  both.run(drops);
  CHECK(both.dispatch.choose(single.args.forward).reason == "s_q = s_kv = 1 is not supported.");
  both.run(single);
  CHECK(both.counts.forwards == 0);
  CHECK(both.counts.backwards == 0);
  CHECK(both.dispatch.scratch_bytes(off.args) >= cuda::attention_scratch_bytes(off.args));
}

TEST_CASE("own kernels that were asked for need no cuDNN", "[dispatch]") {
  Both both(AttentionKernel::own);
  const Call call(16);
  both.run(call);
  CHECK(both.counts.plans == 0);
  CHECK(both.dispatch.scratch_bytes(call.args.forward) == 0);
}

TEST_CASE("the emulated device has no cuDNN and says so", "[dispatch]") {
  const Call call(16);
  CHECK(cudnn_description() == "no cuDNN");
  CHECK(make_cuda_ops()->describe(call.args.forward) == "own kernels (not cuDNN: this binary was built without cuDNN)");
  const std::unique_ptr<Ops> ops = make_cuda_ops(AttentionKernel::cudnn);
  CHECK_THROWS_AS(ops->scratch_bytes(call.args), UserError);
}

}  // namespace trident
