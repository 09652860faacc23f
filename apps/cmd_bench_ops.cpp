// trident bench ops: how near each operation of kernels/ops.h comes to what the machine can do, on the shapes that a
// step of GPT-2 124M gives it.
//
// Policy: products are held against the best GEMM of their dtype, everything else against x *= s over as many bytes
// (what writes elsewhere: against y = x s; what only reads: against reading as many), measured in turn with it: tensors
// of a few megabytes live in a cache, for both alike. What a call has to do at least (operations, bytes) is counted by
// kernels/observed_ops. An operation that is not in the list is an error.
//
// Legend: T tokens, D hidden, F ffn, V vocabulary, C context, H heads, K head size.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "apps/bench.h"
#include "core/base/error.h"
#include "kernels/dry_ops.h"
#include "kernels/observed_ops.h"

namespace trident {
namespace {

/// Remembers the last call.
class LastCall final : public OpObserver {
 public:
  void begin(const OpCall& call) override { call_ = call; }
  void end() override {}
  const OpCall& call() const { return call_; }

 private:
  OpCall call_{};
};

Traffic traffic_of(Op op) {
  switch (op) {
    case Op::bias_backward:
    case Op::softmax_max:
    case Op::softmax_sum:
    case Op::sum_squares:
    case Op::sum: return Traffic::reading;
    case Op::norm_forward:
    case Op::activation_forward:
    case Op::activation_backward:
    case Op::dropout_add:
    case Op::dropout_backward:
    case Op::scale:
    case Op::embedding_forward: return Traffic::elsewhere;
    default: return Traffic::in_place;
  }
}

struct Line {
  std::string name;
  double seconds = 0;
  trace::Work work;
  double limit = 0;  ///< of the rate; NaN for what is too small to have one

  double share() const { return rate() / limit; }
  double rate() const { return (work.flops > 0 ? work.flops : work.bytes) / seconds; }
};

/// Times operations in one dtype.
class OpBench {
 public:
  OpBench(Device& device, const MemoryStream& memory, const BenchShape& shape, DType dtype)
      : device_(device),
        memory_(memory),
        s_(shape),
        dtype_(dtype),
        stream_(device.stream(Role::compute)),
        dry_(make_observed_ops(make_dry_ops(device.ops()), last_)) {}

  std::vector<Line> run() {
    gemms();
    attention();
    norms();
    activations();
    pointwise();
    embeddings();
    loss();
    optimizer();
    for (int op = 0; op < kOps; ++op) {
      if (seen_[static_cast<size_t>(op)]) continue;
      throw InternalError(build_string("bench ops misses ", op_name(static_cast<Op>(op)), ": measure it, too"));
    }
    return lines_;
  }

 private:
  using Call = std::function<void(const Ops&)>;

  void measure(const std::string& name, const Call& call) {
    constexpr double kLeastBytes = 1 << 20;
    call(*dry_);
    const OpCall& counted = last_.call();
    seen_[static_cast<size_t>(counted.op)] = true;
    const auto real = [&] { call(device_.ops()); };
    Line line{.name = name, .work = counted.work};
    if (line.work.flops > 0) {
      line.seconds = fastest(device_, real);
    } else {
      const BesideStream pair = beside_stream(device_, memory_, line.work.bytes, traffic_of(counted.op), real);
      line.seconds = pair.seconds;
      const bool large = line.work.bytes >= std::min(kLeastBytes, static_cast<double>(s_.t * s_.d));
      line.limit = large ? pair.stream_rate : std::numeric_limits<double>::quiet_NaN();
    }
    lines_.push_back(std::move(line));
  }

  void gemm(const std::string& name, GemmArgs args, Room& room) {
    args.scratch = room.scratch(device_.ops().scratch_bytes(args));
    measure(name, [&](const Ops& ops) { ops.gemm(stream_, args); });
  }

  /// A linear layer's three products as training asks for them: y = x w^T + b, and gelu(y) with it where `activated`;
  /// dx = dy w; dw += dy^T x, and the bias's gradient with it.
  void linear(const std::string& layer, int64_t tokens, int64_t out, int64_t in, bool bias, bool activated) {
    const std::string name = build_string("gemm ", layer, " ", out, "x", in);
    Room room(device_);
    const Tensor x = room.fill(dtype_, {tokens, in}), w = room.fill(dtype_, {out, in}),
                 dy = room.fill(dtype_, {tokens, out});
    GemmArgs forward{.c_MN = room.make(dtype_, {tokens, out}), .a = x, .b = w, .transpose_b = true};
    if (bias) forward.bias_N = room.fill(dtype_, {out});
    if (activated) forward.activated_MN = room.make(dtype_, {tokens, out});
    gemm(name + (activated ? " forward, gelu" : " forward"), forward, room);
    gemm(name + " dx", {.c_MN = room.make(dtype_, {tokens, in}), .a = dy, .b = w}, room);
    GemmArgs dw{.c_MN = room.make(DType::f32, {out, in}), .a = dy, .b = x, .transpose_a = true, .accumulate = true};
    if (bias) dw.bias_grad_M = room.make(DType::f32, {out});
    gemm(name + " dw", dw, room);
  }
  void gemms() {
    linear("qkv", s_.t, 3 * s_.d, s_.d, true, false);
    linear("out", s_.t, s_.d, s_.d, true, false);
    linear("up", s_.t, s_.f, s_.d, true, true);
    linear("down", s_.t, s_.d, s_.f, true, false);
    linear(build_string("head, ", s_.chunk, " tokens,"), s_.chunk, s_.v, s_.d, false, false);
  }

  void attention() {
    for (const float dropout : {0.0f, 0.1f}) {
      Room room(device_);
      AttentionArgs args;
      args.qkv = room.fill(dtype_, {s_.t, 3 * s_.d});
      args.out = room.make(dtype_, {s_.t, s_.d});
      args.lse = room.make(DType::f32, {s_.t / s_.c, s_.h, s_.c});
      args.context = s_.c, args.heads = args.kv_heads = args.heads_total = s_.h, args.head_size = s_.k;
      args.scale = 1.0f / std::sqrt(static_cast<float>(s_.k));
      args.dropout = dropout;
      args.scratch = room.scratch(device_.ops().scratch_bytes(args));
      AttentionBackwardArgs backward{args, room.make(dtype_, {s_.t, 3 * s_.d}), room.fill(dtype_, {s_.t, s_.d}), {}};
      backward.scratch = room.scratch(device_.ops().scratch_bytes(backward));
      const std::string name = dropout > 0 ? "attention, dropout 0.1" : "attention";
      measure(name + " forward", [&](const Ops& ops) { ops.attention_forward(stream_, args); });
      measure(name + " backward", [&](const Ops& ops) { ops.attention_backward(stream_, backward); });
    }
  }

  void norms() {
    for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
      Room room(device_);
      const bool layer = kind == NormKind::layer_norm;
      NormArgs args{.kind = kind};
      args.x_TD = room.fill(dtype_, {s_.t, s_.d}), args.y_TD = room.make(dtype_, {s_.t, s_.d});
      args.w_D = room.fill(dtype_, {s_.d});
      if (layer) args.b_D = room.fill(dtype_, {s_.d}), args.mean_T = room.make(DType::f32, {s_.t});
      args.rstd_T = room.make(DType::f32, {s_.t});
      NormArgs joining = args;
      joining.stream_TD = room.fill(dtype_, {s_.t, s_.d}), joining.addend_TD = room.fill(dtype_, {s_.t, s_.d});
      NormBackwardArgs backward{.forward = args};
      backward.dx_TD = room.make(dtype_, {s_.t, s_.d}), backward.dy_TD = room.fill(dtype_, {s_.t, s_.d});
      backward.residual_TD = backward.dx_TD;
      backward.dw_D = room.make(DType::f32, {s_.d});
      if (layer) backward.db_D = room.make(DType::f32, {s_.d});
      backward.scratch = room.scratch(device_.ops().scratch_bytes(backward));
      const std::string name = layer ? "layer norm" : "rms norm";
      measure(name + " forward", [&](const Ops& ops) { ops.norm_forward(stream_, args); });
      measure(name + " forward, residual", [&](const Ops& ops) { ops.norm_forward(stream_, joining); });
      if (layer) {
        joining.drop = {0.1f, {1, 2, 3}, 0};
        measure(name + " forward, dropout 0.1", [&](const Ops& ops) { ops.norm_forward(stream_, joining); });
      }
      measure(name + " backward", [&](const Ops& ops) { ops.norm_backward(stream_, backward); });
    }
  }

  void activations() {
    for (const ActivationKind kind : {ActivationKind::gelu_tanh, ActivationKind::swiglu}) {
      Room room(device_);
      const int64_t inputs = is_gated(kind) ? 2 * s_.f : s_.f;
      const Tensor x = room.fill(dtype_, {s_.t, inputs}), dx = room.make(dtype_, {s_.t, inputs}),
                   y_TF = room.make(dtype_, {s_.t, s_.f});
      const std::string name = is_gated(kind) ? "swiglu" : "gelu";
      measure(name + " forward", [&](const Ops& ops) { ops.activation_forward(stream_, kind, y_TF, x); });
      measure(name + " backward", [&](const Ops& ops) { ops.activation_backward(stream_, kind, dx, y_TF, x); });
    }
  }

  void pointwise() {
    Room room(device_);
    const Tensor x_TF = room.fill(dtype_, {s_.t, s_.f}), b_F = room.fill(dtype_, {s_.f}),
                 db_F = room.make(DType::f32, {s_.f});
    const Tensor x_TD = room.fill(dtype_, {s_.t, s_.d}), z_TD = room.fill(dtype_, {s_.t, s_.d}),
                 y_TD = room.make(dtype_, {s_.t, s_.d});
    const Tensor wide_TD = room.make(DType::f32, {s_.t, s_.d}), qkv = room.fill(dtype_, {s_.t, 3 * s_.d});
    const Tensor bias_scratch = room.scratch(device_.ops().bias_scratch_bytes(s_.t, s_.f));
    const DropoutSpec drop{0.1f, {1, 2, 3}, 0};
    const RopeArgs rope{qkv, s_.c, 2 * s_.h, s_.k, 10000.0, false};
    measure("residual add", [&](const Ops& ops) { ops.dropout_add(stream_, y_TD, x_TD, z_TD, DropoutSpec{}); });
    measure("residual add, dropout 0.1", [&](const Ops& ops) { ops.dropout_add(stream_, y_TD, x_TD, z_TD, drop); });
    measure("dropout 0.1 backward", [&](const Ops& ops) { ops.dropout_backward(stream_, y_TD, x_TD, drop); });
    measure(build_string("bias add, ", s_.f, " columns"), [&](const Ops& ops) { ops.bias_add(stream_, x_TF, b_F); });
    measure(build_string("bias backward, ", s_.f, " columns"),
            [&](const Ops& ops) { ops.bias_backward(stream_, db_F, x_TF, bias_scratch); });
    measure("add, f32 += this", [&](const Ops& ops) { ops.add(stream_, wide_TD, x_TD); });
    measure("scale, this = f32 * s", [&](const Ops& ops) { ops.scale(stream_, y_TD, wide_TD, 0.5f); });
    measure("rope, q and k", [&](const Ops& ops) { ops.rope(stream_, rope); });
  }

  void embeddings() {
    Room room(device_);
    const Tensor id_T = room.ids(s_.t, s_.v), table_VD = room.fill(dtype_, {s_.v, s_.d}),
                 y_TD = room.make(dtype_, {s_.t, s_.d}), table_PD = room.fill(dtype_, {s_.c, s_.d});
    const Tensor dtable_VD = room.make(DType::f32, {s_.v, s_.d}), dtable_PD = room.make(DType::f32, {s_.c, s_.d});
    const Tensor scratch = room.scratch(device_.ops().embedding_scratch_bytes(s_.t, s_.v));
    measure("embedding forward", [&](const Ops& ops) { ops.embedding_forward(stream_, y_TD, id_T, table_VD, 0); });
    measure("embedding backward",
            [&](const Ops& ops) { ops.embedding_backward(stream_, dtable_VD, id_T, y_TD, 0, scratch); });
    measure("positions forward", [&](const Ops& ops) { ops.position_forward(stream_, y_TD, table_PD, 0, s_.c); });
    measure("positions backward", [&](const Ops& ops) { ops.position_backward(stream_, dtable_PD, y_TD, 0, s_.c); });
  }

  void loss() {
    Room room(device_);
    const Tensor logits_TV = room.fill(dtype_, {s_.chunk, s_.v}), id_T = room.ids(s_.chunk, s_.v);
    const Tensor max_T = room.make(DType::f32, {s_.chunk}), sum_T = room.make(DType::f32, {s_.chunk});
    const Tensor target_T = room.make(DType::f32, {s_.chunk}), loss_T = room.make(DType::f32, {s_.chunk});
    const Tensor out_1 = room.make(DType::f64, {1}), sum_scratch = room.scratch(device_.ops().sum_scratch_bytes());
    const std::string tokens = build_string(", ", s_.chunk, " tokens");
    measure("softmax max" + tokens, [&](const Ops& ops) { ops.softmax_max(stream_, max_T, logits_TV, s_.v); });
    measure("softmax sum" + tokens,
            [&](const Ops& ops) { ops.softmax_sum(stream_, sum_T, target_T, logits_TV, max_T, id_T, 0, s_.v); });
    measure("softmax loss" + tokens, [&](const Ops& ops) {
      ops.softmax_loss(stream_, loss_T, logits_TV, max_T, sum_T, target_T, id_T, 0, s_.v, true);
    });
    measure("sum of losses" + tokens, [&](const Ops& ops) { ops.sum(stream_, out_1, loss_T, sum_scratch); });
  }

  void optimizer() {
    const std::string parameters = build_string(", ", s_.parameters);
    for (const DType state : {DType::f32, DType::bf16}) {
      Room room(device_);
      const AdamWArgs args = adamw_args(room, s_.parameters, dtype_, state);
      measure((state == DType::f32 ? "adamw" : "adamw, bf16 moments") + parameters,
              [&](const Ops& ops) { ops.adamw(stream_, args); });
    }
    Room room(device_);
    constexpr int64_t kBlocks = 14, kSegments = 148;
    const Tensor x = room.fill(DType::f32, {s_.parameters}), out_1 = room.make(DType::f64, {1});
    const Tensor sum_scratch = room.scratch(device_.ops().sum_scratch_bytes());
    measure("sum of squares" + parameters, [&](const Ops& ops) { ops.sum_squares(stream_, out_1, x, sum_scratch); });
    StepSumsArgs sums;
    sums.sums_N = room.make(DType::f64, {kBlocks + kStepSums});
    sums.squares_S = room.make(DType::f64, {kSegments}), sums.block_S = room.ids(kSegments, kBlocks);
    sums.loss_L = room.make(DType::f64, {s_.t / s_.chunk});
    StepControlArgs control;
    control.control_4 = room.make(DType::f32, {4}), control.updates_1 = room.make(DType::f64, {1});
    control.sums_N = sums.sums_N;
    measure("step sums", [&](const Ops& ops) { ops.step_sums(stream_, sums); });
    measure("step control", [&](const Ops& ops) { ops.step_control(stream_, control); });
  }

  Device& device_;
  const MemoryStream& memory_;
  BenchShape s_;
  DType dtype_;
  Stream stream_;
  LastCall last_;
  std::unique_ptr<Ops> dry_;
  std::array<bool, kOps> seen_{};
  std::vector<Line> lines_;
};

/// What does not wait for memory, and how fast that is. An element's random word is a quarter of ten rounds of Philox.
void print_bound_by_instructions(const std::vector<Line>& lines, const BenchShape& s) {
  const auto per_ns = [&](const char* name, int64_t elements) {
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& l) { return l.name == name; });
    return 1e-9 * static_cast<double>(elements) / line->seconds;
  };
  std::printf("bound by instructions, not by memory: dropout (%.2f random words a ns), gelu (%.2f elements a ns)\n",
              per_ns("dropout 0.1 backward", s.t * s.d), per_ns("gelu forward", s.t * s.f));
}

void print(DType dtype, double peak, std::vector<Line> lines) {
  const auto rank = [](const Line& line) { return std::isnan(line.limit) ? 1e9 : line.share(); };
  std::stable_sort(lines.begin(), lines.end(), [&](const Line& a, const Line& b) { return rank(a) > rank(b); });
  std::printf("\n%-40s %10s %12s  of %.1f GFLOP/s, or of a stream beside it\n", std::string(dtype_name(dtype)).c_str(),
              "ms", "rate", peak * 1e-9);
  for (const Line& line : lines) {
    std::printf("%-40s %10.3f %7.1f %s", line.name.c_str(), line.seconds * 1e3, line.rate() * 1e-9,
                line.work.flops > 0 ? "GF/s" : "GB/s");
    std::isnan(line.limit) ? std::printf(" %8s\n", "-") : std::printf(" %7.0f%%\n", 100 * line.share());
  }
}

}  // namespace

void bench_ops(Device& device, bool on_cpu, const BenchShape& shape, const std::function<double(DType)>& measure_peak) {
  const MemoryStream memory(device, on_cpu, shape.stream);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double before = measure_peak(dtype);
    std::vector<Line> lines = OpBench(device, memory, shape, dtype).run();
    // Who shares the machine may have been busy the first time.
    const double peak = std::max(before, measure_peak(dtype));
    for (Line& line : lines) {
      if (line.work.flops > 0) line.limit = peak;
    }
    print(dtype, peak, lines);
    if (on_cpu) print_bound_by_instructions(lines, shape);
    const HeadTimes times = time_head(device, shape, dtype);
    std::printf("the head as a whole, %lld tokens: %.1f ms, %.3f times its products alone (%.1f ms)\n",
                static_cast<long long>(shape.t), times.head * 1e3, times.head / times.products, times.products * 1e3);
  }
}

}  // namespace trident
