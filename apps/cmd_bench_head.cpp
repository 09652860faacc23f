// The head of a model as training runs it (core/model/head: final norm, logits, loss and gradients, a chunk of tokens
// at a time) beside its products alone: what the passes over the logits cost on top.
//
// Legend: T tokens, N tokens of a chunk, D hidden, V vocabulary.
#include <algorithm>

#include "apps/bench.h"
#include "core/comm/communicator.h"
#include "core/model/head.h"
#include "kernels/dry_ops.h"

namespace trident {
namespace {

class HeadBench {
 public:
  HeadBench(Device& device, const BenchShape& s, DType dtype)
      : device_(device),
        shape_{.hidden = s.d, .vocab = s.v, .context = s.c},
        head_(shape_),
        dtype_(dtype),
        chunk_(head_chunk_tokens(shape_, dtype, s.t)),
        room_(device),
        tensor_(make_self_communicator("tensor")),
        x_TD_(room_.fill(dtype, {s.t, s.d})),
        dx_TD_(room_.make(dtype, {s.t, s.d})),
        saved_(Arena{}) {
    for (const ParamSpec& spec : head_.params()) {
      const bool vector = spec.shape.size() == 1;
      params_.value.push_back(vector ? room_.fill(dtype, {spec.shape[0]}) : room_.fill(dtype, {s.v, s.d}));
      params_.grad.push_back(vector ? room_.make(DType::f32, {spec.shape[0]}) : room_.make(DType::f32, {s.v, s.d}));
    }
    // Weights as small as training's: logits a hundred apart would make denormal gradients, which slow products down.
    device.ops().scale(device.stream(Role::compute), params_.value.back(), params_.value.back(), 0.04f);
    micro_.tokens_T = micro_.targets_T = room_.ids(s.t, s.v);
    micro_.loss_N = room_.make(DType::f64, {head_chunks(shape_, dtype, s.t)});
    // A dry run tells how much memory the head needs.
    run(*make_dry_ops(device.ops()));
    saved_ = Saved(arena(saved_.peak()));
    scratch_ = arena(scratch_.peak());
  }

  void head() { run(device_.ops()); }

  /// The head's products, in its order.
  void products() {
    scratch_.release_to(0);
    const Ops& ops = device_.ops();
    const Stream stream = device_.stream(Role::compute);
    const Tensor w_VD = params_.value.back(), dw_VD = params_.grad.back();
    for (int64_t begin = 0; begin < x_TD_.dim[0]; begin += chunk_) {
      const ScratchScope scope(scratch_);
      const Tensor x_ND = x_TD_.rows(begin, std::min(begin + chunk_, x_TD_.dim[0]));
      const Tensor logits_NV = scratch_.alloc(dtype_, {x_ND.dim[0], w_VD.dim[0]}),
                   dx_ND = dx_TD_.rows(begin, begin + x_ND.dim[0]);
      for (GemmArgs args :
           {GemmArgs{.c_MN = logits_NV, .a = x_ND, .b = w_VD, .transpose_b = true},
            GemmArgs{.c_MN = dx_ND, .a = logits_NV, .b = w_VD},
            GemmArgs{.c_MN = dw_VD, .a = logits_NV, .b = x_ND, .transpose_a = true, .accumulate = true}}) {
        const ScratchScope one(scratch_);
        const size_t bytes = ops.scratch_bytes(args);
        if (bytes > 0) args.scratch = scratch_.alloc(DType::u8, {static_cast<int64_t>(bytes)});
        ops.gemm(stream, args);
      }
    }
  }

 private:
  void run(const Ops& ops) {
    saved_.reset();
    scratch_.release_to(0);
    Exec ex{.ops = ops,
            .device = device_,
            .stream = device_.stream(Role::compute),
            .scratch = scratch_,
            .tensor = *tensor_,
            .dtype = dtype_,
            .micro = micro_};
    head_.forward(ex, params_, x_TD_, saved_);
  }
  Arena arena(size_t bytes) {
    return Arena(room_.make(DType::u8, {static_cast<int64_t>(bytes)}).data, bytes, Place::device);
  }

  Device& device_;
  ModelShape shape_;
  Head head_;
  DType dtype_;
  int64_t chunk_;
  Room room_;
  std::unique_ptr<Communicator> tensor_;
  Tensor x_TD_, dx_TD_;
  BlockParams params_;
  MicroBatch micro_;
  Saved saved_;
  Arena scratch_;
};

}  // namespace

HeadTimes time_head(Device& device, const BenchShape& shape, DType dtype) {
  constexpr int kPairs = 9;
  HeadBench bench(device, shape, dtype);
  const auto head = [&] { bench.head(); };
  const auto products = [&] { bench.products(); };
  seconds_of(device, head, 1), seconds_of(device, products, 1);
  HeadTimes fastest{seconds_of(device, head, 1), seconds_of(device, products, 1)};
  for (int i = 1; i < kPairs; ++i) {
    fastest.products = std::min(fastest.products, seconds_of(device, products, 1));
    fastest.head = std::min(fastest.head, seconds_of(device, head, 1));
  }
  return fastest;
}

}  // namespace trident
