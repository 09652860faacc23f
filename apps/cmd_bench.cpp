// trident bench: what this machine can do (GEMM peak, memory bandwidth), and with `ops` how near each operation comes
// to it on the shapes of GPT-2 124M with 4096 tokens: hidden 768, ffn 3072, 12 heads of 64, context 1024, vocabulary
// 50257 in chunks of 512 tokens.
//
// Legend: T tokens, D hidden, F ffn, V vocabulary, C context, H heads, K head size.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/peak.h"

namespace trident {
namespace {

constexpr int64_t kT = 4096, kD = 768, kF = 3072, kV = 50257, kC = 1024, kH = 12, kK = 64, kChunk = 512;

/// Seconds of the fastest of a few calls, after one that warms up.
double fastest(const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  call();
  double best = 1e30, total = 0;
  for (int i = 0; i < 3 || (i < 20 && total < 0.3); ++i) {
    const auto start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

/// Tensors that live as long as one measurement.
class Room {
 public:
  Tensor make(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape);
    blocks_.push_back(std::make_unique<char[]>(t.bytes()));
    t.data = blocks_.back().get();
    return t;
  }
  /// Small numbers of either sign, so that no operation meets a special case.
  Tensor fill(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t = make(dtype, shape);
    for (int64_t i = 0; i < t.numel(); ++i) {
      const float x = static_cast<float>(i * 7919 % 1013) / 1013.0f - 0.5f;
      if (dtype == DType::f32) t.as<float>()[i] = x;
      if (dtype == DType::bf16) t.as<bf16>()[i] = bf16(x);
    }
    return t;
  }
  Tensor ids(int64_t n) {
    Tensor t = make(DType::i32, {n});
    for (int64_t i = 0; i < n; ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % kV);
    return t;
  }
  Tensor scratch(size_t bytes) { return bytes == 0 ? Tensor{} : make(DType::u8, {static_cast<int64_t>(bytes)}); }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
};

struct Limits {
  double flops;  ///< FLOP/s of the best GEMM in this dtype
  double bytes;  ///< bytes/s of the better of copy and read-modify-write
};

/// Times operations in one dtype and prints a line each.
class OpBench {
 public:
  OpBench(DType dtype, const Limits& limits) : dtype_(dtype), limits_(limits), ops_(make_cpu_ops()) {}

  void run() const {
    std::printf("\n%-34s %10s %12s %8s\n", std::string(dtype_name(dtype_)).c_str(), "ms", "rate", "of limit");
    gemms();
    attention();
    norms();
    pointwise();
    embeddings();
    loss();
    optimizer();
  }

 private:
  double width() const { return static_cast<double>(dtype_bytes(dtype_)); }

  void compute_line(const std::string& name, double flop, const std::function<void()>& call) const {
    const double seconds = fastest(call);
    std::printf("%-34s %10.3f %7.1f GF/s %7.0f%%\n", name.c_str(), seconds * 1e3, flop / seconds * 1e-9,
                100 * flop / seconds / limits_.flops);
  }
  void memory_line(const std::string& name, double bytes, const std::function<void()>& call) const {
    const double seconds = fastest(call);
    std::printf("%-34s %10.3f %7.1f GB/s %7.0f%%\n", name.c_str(), seconds * 1e3, bytes / seconds * 1e-9,
                100 * bytes / seconds / limits_.bytes);
  }

  void gemm(const std::string& name, int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, DType c,
            bool accumulate) const {
    Room room;
    GemmArgs args;
    args.a = transpose_a ? room.fill(dtype_, {k, m}) : room.fill(dtype_, {m, k});
    args.b = transpose_b ? room.fill(dtype_, {n, k}) : room.fill(dtype_, {k, n});
    args.c_MN = room.make(c, {m, n});
    args.transpose_a = transpose_a;
    args.transpose_b = transpose_b;
    args.accumulate = accumulate;
    args.scratch = room.scratch(ops_->scratch_bytes(args));
    compute_line(name, 2.0 * static_cast<double>(m * n) * static_cast<double>(k), [&] { ops_->gemm({}, args); });
  }

  /// A linear layer's three products: y = x w^T, dx = dy w, dw += dy^T x.
  void linear(const std::string& name, int64_t tokens, int64_t out, int64_t in) const {
    gemm(name + " forward", tokens, out, in, false, true, dtype_, false);
    gemm(name + " dx", tokens, in, out, false, false, dtype_, false);
    gemm(name + " dw", out, in, tokens, true, false, DType::f32, true);
  }
  void gemms() const {
    linear("gemm qkv 2304x768", kT, 3 * kD, kD);
    linear("gemm out 768x768", kT, kD, kD);
    linear("gemm up 3072x768", kT, kF, kD);
    linear("gemm down 768x3072", kT, kD, kF);
    linear("gemm head 50257x768, 512 tokens", kChunk, kV, kD);
  }

  void attention() const {
    for (const float dropout : {0.0f, 0.1f}) {
      Room room;
      AttentionArgs args;
      args.qkv = room.fill(dtype_, {kT, 3 * kD});
      args.out = room.make(dtype_, {kT, kD});
      args.lse = room.make(DType::f32, {kT / kC, kH, kC});
      args.context = kC, args.heads = args.kv_heads = args.heads_total = kH, args.head_size = kK;
      args.scale = 0.125f;
      args.dropout = dropout;
      args.scratch = room.scratch(ops_->scratch_bytes(args));
      AttentionBackwardArgs backward{args, room.make(dtype_, {kT, 3 * kD}), room.fill(dtype_, {kT, kD}), {}};
      backward.scratch = room.scratch(ops_->scratch_bytes(backward));
      // The causal half of q k^T and p v; backward has five such products.
      const double flop = 2.0 * 2.0 * static_cast<double>(kT * kC / 2) * static_cast<double>(kD);
      const std::string name = dropout > 0 ? "attention, dropout 0.1" : "attention";
      compute_line(name + " forward", flop, [&] { ops_->attention_forward({}, args); });
      compute_line(name + " backward", 2.5 * flop, [&] { ops_->attention_backward({}, backward); });
    }
  }

  void norms() const {
    Room room;
    const double row_bytes = static_cast<double>(kT * kD) * width();
    NormArgs args;
    args.x_TD = room.fill(dtype_, {kT, kD}), args.y_TD = room.make(dtype_, {kT, kD});
    args.w_D = room.fill(dtype_, {kD}), args.b_D = room.fill(dtype_, {kD});
    args.mean_T = room.make(DType::f32, {kT}), args.rstd_T = room.make(DType::f32, {kT});
    NormBackwardArgs backward{args,
                              room.make(dtype_, {kT, kD}),
                              room.fill(dtype_, {kT, kD}),
                              room.fill(dtype_, {kT, kD}),
                              room.make(DType::f32, {kD}),
                              room.make(DType::f32, {kD}),
                              {}};
    backward.scratch = room.scratch(ops_->scratch_bytes(backward));
    memory_line("layer norm forward", 2 * row_bytes, [&] { ops_->norm_forward({}, args); });
    memory_line("layer norm backward", 4 * row_bytes, [&] { ops_->norm_backward({}, backward); });
  }

  void pointwise() const {
    Room room;
    const double ffn_bytes = static_cast<double>(kT * kF) * width(), row_bytes = static_cast<double>(kT * kD) * width();
    const Tensor x_TF = room.fill(dtype_, {kT, kF}), y_TF = room.make(dtype_, {kT, kF}),
                 dx_TF = room.make(dtype_, {kT, kF});
    const Tensor x_TD = room.fill(dtype_, {kT, kD}), z_TD = room.fill(dtype_, {kT, kD}),
                 y_TD = room.make(dtype_, {kT, kD});
    const Tensor db_F = room.make(DType::f32, {kF}), qkv = room.fill(dtype_, {kT, 3 * kD});
    const DropoutSpec drop{0.1f, {1, 2, 3}, 0};
    const RopeArgs rope{qkv, kC, 2 * kH, kK, 10000.0, false};
    memory_line("gelu forward", 2 * ffn_bytes,
                [&] { ops_->activation_forward({}, ActivationKind::gelu_tanh, y_TF, x_TF); });
    memory_line("gelu backward", 3 * ffn_bytes,
                [&] { ops_->activation_backward({}, ActivationKind::gelu_tanh, dx_TF, y_TF, x_TF); });
    memory_line("residual add", 3 * row_bytes, [&] { ops_->dropout_add({}, y_TD, x_TD, z_TD, DropoutSpec{}); });
    memory_line("dropout 0.1 and residual add", 3 * row_bytes, [&] { ops_->dropout_add({}, y_TD, x_TD, z_TD, drop); });
    memory_line("bias backward, 3072 columns", ffn_bytes, [&] { ops_->bias_backward({}, db_F, x_TF, {}); });
    memory_line("rope, q and k", 2 * 2 * row_bytes, [&] { ops_->rope({}, rope); });
  }

  void embeddings() const {
    Room room;
    const double row_elements = static_cast<double>(kT * kD);
    const Tensor id_T = room.ids(kT), table_VD = room.fill(dtype_, {kV, kD}), y_TD = room.make(dtype_, {kT, kD});
    const Tensor dtable_VD = room.make(DType::f32, {kV, kD});
    const Tensor scratch = room.scratch(ops_->embedding_scratch_bytes(kT, kV));
    memory_line("embedding forward", 2 * row_elements * width(),
                [&] { ops_->embedding_forward({}, y_TD, id_T, table_VD, 0); });
    memory_line("embedding backward", row_elements * (width() + 8),
                [&] { ops_->embedding_backward({}, dtable_VD, id_T, y_TD, 0, scratch); });
  }

  void loss() const {
    Room room;
    const double bytes = static_cast<double>(kChunk * kV) * width();
    const Tensor logits_TV = room.fill(dtype_, {kChunk, kV}), id_T = room.ids(kChunk);
    const Tensor max_T = room.make(DType::f32, {kChunk}), sum_T = room.make(DType::f32, {kChunk});
    const Tensor target_T = room.make(DType::f32, {kChunk}), loss_T = room.make(DType::f32, {kChunk});
    memory_line("softmax max, 512 tokens", bytes, [&] { ops_->softmax_max({}, max_T, logits_TV, kV); });
    memory_line("softmax sum, 512 tokens", bytes,
                [&] { ops_->softmax_sum({}, sum_T, target_T, logits_TV, max_T, id_T, 0, kV); });
    memory_line("softmax loss, 512 tokens", 2 * bytes,
                [&] { ops_->softmax_loss({}, loss_T, logits_TV, max_T, sum_T, target_T, id_T, 0, kV, true); });
  }

  void optimizer() const {
    Room room;
    constexpr int64_t kN = int64_t{32} << 20;
    AdamWArgs args;
    args.master = room.fill(DType::f32, {kN}), args.grad = room.fill(DType::f32, {kN});
    args.m = room.make(DType::f32, {kN}), args.v = room.make(DType::f32, {kN});
    args.weight = room.make(dtype_, {kN});
    args.lr = 1e-3f;
    args.zero_grad = true;
    const Tensor out_1 = room.make(DType::f64, {1});
    const double n = static_cast<double>(kN);
    memory_line("adamw, 32 Mi parameters", n * (8 * 4 + width()), [&] { ops_->adamw({}, args); });
    memory_line("sum of squares, 32 Mi f32", n * 4, [&] { ops_->sum_squares({}, out_1, args.master, {}); });
  }

  DType dtype_;
  Limits limits_;
  std::unique_ptr<Ops> ops_;
};

/// Bytes/s of y = x and of y = y + x over arrays much larger than the caches, counting reads and writes.
double measure_bandwidth(bool read_modify_write) {
  constexpr int64_t kN = int64_t{64} << 20;
  Room room;
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Tensor x = room.make(DType::f32, {kN}), y = room.make(DType::f32, {kN});
  const double bytes = static_cast<double>(x.bytes()) * (read_modify_write ? 3 : 2);
  return bytes / fastest([&] { read_modify_write ? ops->add({}, y, x) : ops->scale({}, y, x, 1.0f); });
}

void run_bench(bool with_ops) {
  const double peak_f32 = measure_gemm_peak(DType::f32, 1.0), peak_bf16 = measure_gemm_peak(DType::bf16, 1.0);
  const double copy = measure_bandwidth(false), update = measure_bandwidth(true);
  std::printf("GEMM f32                %8.1f GFLOP/s\n", peak_f32 * 1e-9);
  std::printf("GEMM bf16               %8.1f GFLOP/s\n", peak_bf16 * 1e-9);
  std::printf("copy, y = x             %8.1f GB/s\n", copy * 1e-9);
  std::printf("read-modify-write, y += x %6.1f GB/s\n", update * 1e-9);
  if (!with_ops) return;
  OpBench(DType::f32, {peak_f32, std::max(copy, update)}).run();
  OpBench(DType::bf16, {peak_bf16, std::max(copy, update)}).run();
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "measure this machine: GEMM peak and memory bandwidth");
  CLI::App* ops = bench->add_subcommand("ops", "also every operation on the shapes of GPT-2 124M");
  ops->callback([] { run_bench(true); });
  bench->callback([ops] {
    if (!ops->parsed()) run_bench(false);
  });
}

}  // namespace trident
