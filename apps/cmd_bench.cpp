// trident bench: what a device can do (GEMM peak, memory bandwidth), and with `ops` how near each operation comes to
// it, on the shapes of GPT-2 124M with 4096 tokens and a head in chunks of 512; with `adamw` the update alone, beside a
// read-modify-write stream that is measured in turn with it.
//
// Legend: T tokens, D hidden, F ffn, V vocabulary, C context, H heads, K head size.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/commands.h"
#include "core/comm/grid.h"
#include "core/run/device_peak.h"
#include "core/run/run.h"
#include "kernels/cpu/peak.h"

namespace trident {
namespace {

struct Shape {
  int64_t t = 4096, d = 768, f = 3072, v = 50257, c = 1024, h = 12, k = 64, chunk = 512;
  int64_t parameters = 100'000'000;    ///< of AdamW
  int64_t stream = int64_t{64} << 20;  ///< f32 elements of the bandwidth's arrays: much larger than the caches
};
constexpr Shape kTiny{
    .t = 64, .d = 64, .f = 128, .v = 257, .c = 32, .h = 2, .k = 32, .chunk = 16, .parameters = 4096, .stream = 4096};

/// Tensors on a device that live as long as one measurement.
class Room {
 public:
  explicit Room(Device& device) : device_(device) {}

  Tensor make(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape);
    memory_.push_back(device_.alloc(t.bytes(), Place::device, "bench"));
    t.data = memory_.back().data();
    t.place = Place::device;
    return t;
  }
  /// Small numbers of either sign, so that no operation meets a special case.
  Tensor fill(DType dtype, std::initializer_list<int64_t> shape) {
    return dtype == DType::f32 ? upload<float>(make(dtype, shape), number) : upload<bf16>(make(dtype, shape), number);
  }
  Tensor ids(int64_t n, int64_t vocabulary) {
    return upload<int32_t>(make(DType::i32, {n}), [&](int64_t i) { return i * 7919 % vocabulary; });
  }
  Tensor scratch(size_t bytes) { return bytes == 0 ? Tensor{} : make(DType::u8, {static_cast<int64_t>(bytes)}); }

 private:
  static float number(int64_t i) { return static_cast<float>(i * 7919 % 1013) / 1013.0f - 0.5f; }

  template <class T, class Value>
  Tensor upload(Tensor t, Value value) {
    std::vector<T> host(static_cast<size_t>(t.numel()));
    for (int64_t i = 0; i < t.numel(); ++i) host[static_cast<size_t>(i)] = static_cast<T>(value(i));
    const Stream stream = device_.stream(Role::compute);
    device_.copy(t.flat(), Tensor(host.data(), t.dtype, {t.numel()}), stream);
    device_.synchronize(stream);
    return t;
  }

  Device& device_;
  std::vector<Memory> memory_;
};

/// Seconds of a call, of `calls` in a row.
double seconds_of(Device& device, const std::function<void()>& call, int calls) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (int i = 0; i < calls; ++i) call();
  device.synchronize(device.stream(Role::compute));
  return std::chrono::duration<double>(Clock::now() - start).count() / calls;
}

/// Seconds of the fastest of a few samples, after a call that warms up. A sample of a short operation is many calls in
/// a row: what submitting them to a GPU costs then overlaps.
double fastest(Device& device, const std::function<void()>& call) {
  constexpr double kShort = 2e-3;
  seconds_of(device, call, 1);
  double best = seconds_of(device, call, 1), total = best;
  const int calls = std::clamp(static_cast<int>(kShort / best), 1, 16);
  for (int i = 0; i < 3 || (i < 20 && total < 0.3); ++i) {
    const double seconds = seconds_of(device, call, calls);
    best = std::min(best, seconds);
    total += seconds * calls;
  }
  return best;
}

struct Limits {
  double flops;  ///< FLOP/s of the best GEMM in this dtype
  double bytes;  ///< bytes/s of the better of copy and read-modify-write
};

/// Times operations in one dtype and prints a line each.
class OpBench {
 public:
  OpBench(Device& device, bool on_cpu, const Shape& shape, DType dtype, const Limits& limits)
      : device_(device),
        on_cpu_(on_cpu),
        ops_(device.ops()),
        s_(shape),
        dtype_(dtype),
        limits_(limits),
        stream_(device.stream(Role::compute)) {}

  void run_update() const {
    head();
    adamw();
  }
  void run() const {
    head();
    gemms();
    attention();
    norms();
    pointwise();
    embeddings();
    loss();
    adamw();
    sums();
  }

 private:
  void head() const {
    std::printf("\n%-34s %10s %12s %8s\n", std::string(dtype_name(dtype_)).c_str(), "ms", "rate", "of limit");
  }
  double width() const { return static_cast<double>(dtype_bytes(dtype_)); }

  void compute_line(const std::string& name, double flop, const std::function<void()>& call) const {
    const double seconds = fastest(device_, call);
    std::printf("%-34s %10.3f %7.1f GF/s %7.0f%%\n", name.c_str(), seconds * 1e3, flop / seconds * 1e-9,
                100 * flop / seconds / limits_.flops);
  }
  void memory_line(const std::string& name, double bytes, const std::function<void()>& call) const {
    const double seconds = fastest(device_, call);
    std::printf("%-34s %10.3f %7.1f GB/s %7.0f%%\n", name.c_str(), seconds * 1e3, bytes / seconds * 1e-9,
                100 * bytes / seconds / limits_.bytes);
  }

  void gemm(const std::string& name, int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, DType c,
            bool accumulate) const {
    Room room(device_);
    GemmArgs args;
    args.a = transpose_a ? room.fill(dtype_, {k, m}) : room.fill(dtype_, {m, k});
    args.b = transpose_b ? room.fill(dtype_, {n, k}) : room.fill(dtype_, {k, n});
    args.c_MN = room.make(c, {m, n});
    args.transpose_a = transpose_a;
    args.transpose_b = transpose_b;
    args.accumulate = accumulate;
    args.scratch = room.scratch(ops_.scratch_bytes(args));
    compute_line(name, 2.0 * static_cast<double>(m * n) * static_cast<double>(k), [&] { ops_.gemm(stream_, args); });
  }

  /// A linear layer's three products: y = x w^T, dx = dy w, dw += dy^T x.
  void linear(const std::string& layer, int64_t tokens, int64_t out, int64_t in) const {
    const std::string name = build_string("gemm ", layer, " ", out, "x", in);
    gemm(name + " forward", tokens, out, in, false, true, dtype_, false);
    gemm(name + " dx", tokens, in, out, false, false, dtype_, false);
    gemm(name + " dw", out, in, tokens, true, false, DType::f32, true);
  }
  void gemms() const {
    linear("qkv", s_.t, 3 * s_.d, s_.d);
    linear("out", s_.t, s_.d, s_.d);
    linear("up", s_.t, s_.f, s_.d);
    linear("down", s_.t, s_.d, s_.f);
    linear(build_string("head, ", s_.chunk, " tokens,"), s_.chunk, s_.v, s_.d);
  }

  void attention() const {
    for (const float dropout : {0.0f, 0.1f}) {
      Room room(device_);
      AttentionArgs args;
      args.qkv = room.fill(dtype_, {s_.t, 3 * s_.d});
      args.out = room.make(dtype_, {s_.t, s_.d});
      args.lse = room.make(DType::f32, {s_.t / s_.c, s_.h, s_.c});
      args.context = s_.c, args.heads = args.kv_heads = args.heads_total = s_.h, args.head_size = s_.k;
      args.scale = 1.0f / std::sqrt(static_cast<float>(s_.k));
      args.dropout = dropout;
      args.scratch = room.scratch(ops_.scratch_bytes(args));
      AttentionBackwardArgs backward{args, room.make(dtype_, {s_.t, 3 * s_.d}), room.fill(dtype_, {s_.t, s_.d}), {}};
      backward.scratch = room.scratch(ops_.scratch_bytes(backward));
      // The causal half of q k^T and p v; backward has five such products.
      const double flop = 2.0 * 2.0 * static_cast<double>(s_.t * s_.c / 2) * static_cast<double>(s_.d);
      const std::string name = dropout > 0 ? "attention, dropout 0.1" : "attention";
      compute_line(name + " forward", flop, [&] { ops_.attention_forward(stream_, args); });
      compute_line(name + " backward", 2.5 * flop, [&] { ops_.attention_backward(stream_, backward); });
    }
  }

  void norms() const {
    Room room(device_);
    const double row_bytes = static_cast<double>(s_.t * s_.d) * width();
    NormArgs args;
    args.x_TD = room.fill(dtype_, {s_.t, s_.d}), args.y_TD = room.make(dtype_, {s_.t, s_.d});
    args.w_D = room.fill(dtype_, {s_.d}), args.b_D = room.fill(dtype_, {s_.d});
    args.mean_T = room.make(DType::f32, {s_.t}), args.rstd_T = room.make(DType::f32, {s_.t});
    NormBackwardArgs backward{args,
                              room.make(dtype_, {s_.t, s_.d}),
                              room.fill(dtype_, {s_.t, s_.d}),
                              room.fill(dtype_, {s_.t, s_.d}),
                              room.make(DType::f32, {s_.d}),
                              room.make(DType::f32, {s_.d}),
                              {}};
    backward.scratch = room.scratch(ops_.scratch_bytes(backward));
    memory_line("layer norm forward", 2 * row_bytes, [&] { ops_.norm_forward(stream_, args); });
    memory_line("layer norm backward", 4 * row_bytes, [&] { ops_.norm_backward(stream_, backward); });
  }

  void pointwise() const {
    Room room(device_);
    const double ffn_bytes = static_cast<double>(s_.t * s_.f) * width(),
                 row_bytes = static_cast<double>(s_.t * s_.d) * width();
    const Tensor x_TF = room.fill(dtype_, {s_.t, s_.f}), y_TF = room.make(dtype_, {s_.t, s_.f}),
                 dx_TF = room.make(dtype_, {s_.t, s_.f});
    const Tensor x_TD = room.fill(dtype_, {s_.t, s_.d}), z_TD = room.fill(dtype_, {s_.t, s_.d}),
                 y_TD = room.make(dtype_, {s_.t, s_.d});
    const Tensor db_F = room.make(DType::f32, {s_.f}), qkv = room.fill(dtype_, {s_.t, 3 * s_.d});
    const Tensor bias_scratch = room.scratch(ops_.bias_scratch_bytes(s_.t, s_.f));
    const DropoutSpec drop{0.1f, {1, 2, 3}, 0};
    const RopeArgs rope{qkv, s_.c, 2 * s_.h, s_.k, 10000.0, false};
    memory_line("gelu forward", 2 * ffn_bytes,
                [&] { ops_.activation_forward(stream_, ActivationKind::gelu_tanh, y_TF, x_TF); });
    memory_line("gelu backward", 3 * ffn_bytes,
                [&] { ops_.activation_backward(stream_, ActivationKind::gelu_tanh, dx_TF, y_TF, x_TF); });
    memory_line("residual add", 3 * row_bytes, [&] { ops_.dropout_add(stream_, y_TD, x_TD, z_TD, DropoutSpec{}); });
    memory_line("dropout 0.1 and residual add", 3 * row_bytes,
                [&] { ops_.dropout_add(stream_, y_TD, x_TD, z_TD, drop); });
    memory_line(build_string("bias backward, ", s_.f, " columns"), ffn_bytes,
                [&] { ops_.bias_backward(stream_, db_F, x_TF, bias_scratch); });
    memory_line("rope, q and k", 2 * 2 * row_bytes, [&] { ops_.rope(stream_, rope); });
  }

  void embeddings() const {
    Room room(device_);
    const double row_elements = static_cast<double>(s_.t * s_.d);
    const Tensor id_T = room.ids(s_.t, s_.v), table_VD = room.fill(dtype_, {s_.v, s_.d}),
                 y_TD = room.make(dtype_, {s_.t, s_.d});
    const Tensor dtable_VD = room.make(DType::f32, {s_.v, s_.d});
    const Tensor scratch = room.scratch(ops_.embedding_scratch_bytes(s_.t, s_.v));
    memory_line("embedding forward", 2 * row_elements * width(),
                [&] { ops_.embedding_forward(stream_, y_TD, id_T, table_VD, 0); });
    memory_line("embedding backward", row_elements * (width() + 8),
                [&] { ops_.embedding_backward(stream_, dtable_VD, id_T, y_TD, 0, scratch); });
  }

  void loss() const {
    Room room(device_);
    const double bytes = static_cast<double>(s_.chunk * s_.v) * width();
    const Tensor logits_TV = room.fill(dtype_, {s_.chunk, s_.v}), id_T = room.ids(s_.chunk, s_.v);
    const Tensor max_T = room.make(DType::f32, {s_.chunk}), sum_T = room.make(DType::f32, {s_.chunk});
    const Tensor target_T = room.make(DType::f32, {s_.chunk}), loss_T = room.make(DType::f32, {s_.chunk});
    memory_line(build_string("softmax max, ", s_.chunk, " tokens"), bytes,
                [&] { ops_.softmax_max(stream_, max_T, logits_TV, s_.v); });
    memory_line(build_string("softmax sum, ", s_.chunk, " tokens"), bytes,
                [&] { ops_.softmax_sum(stream_, sum_T, target_T, logits_TV, max_T, id_T, 0, s_.v); });
    memory_line(build_string("softmax loss, ", s_.chunk, " tokens"), 2 * bytes,
                [&] { ops_.softmax_loss(stream_, loss_T, logits_TV, max_T, sum_T, target_T, id_T, 0, s_.v, true); });
  }

  void adamw() const {
    Room room(device_);
    const int64_t count = s_.parameters;
    AdamWArgs args;
    args.master = room.fill(DType::f32, {count}), args.grad = room.fill(DType::f32, {count});
    args.m = room.make(DType::f32, {count}), args.v = room.make(DType::f32, {count});
    device_.fill_zero(args.m, stream_), device_.fill_zero(args.v, stream_);
    args.weight = room.make(dtype_, {count});
    args.lr = 1e-3f;
    args.step = 1;
    const double n = static_cast<double>(count);
    const std::string name = build_string("adamw, ", count, " parameters");
    // master, m, v and grad read; the first three and the weight written.
    update_line(name, n * (7 * 4 + width()), args);
    args.m = room.make(DType::bf16, {count}), args.v = room.make(DType::bf16, {count});
    device_.fill_zero(args.m, stream_), device_.fill_zero(args.v, stream_);
    args.stochastic_state = true;
    update_line("  moments in bf16", n * (3 * 4 + 4 * 2 + width()), args);
  }

  /// AdamW and x *= s over its gradients in turn, so that both meet the same machine: medians of a few pairs.
  void update_line(const std::string& name, double bytes, const AdamWArgs& args) const {
    constexpr size_t kPairs = 7;
    const auto update = [&] { ops_.adamw(stream_, args); };
    const auto stream = [&] {
      if (on_cpu_) {
        stream_through(args.grad.as<float>(), args.grad.numel(), 1.0f);
      } else {
        ops_.scale(stream_, args.grad, args.grad, 1.0f);
      }
    };
    seconds_of(device_, update, 1), seconds_of(device_, stream, 1);
    std::array<double, kPairs> updates, streams;
    for (size_t i = 0; i < kPairs; ++i) {
      streams[i] = 2 * static_cast<double>(args.grad.bytes()) / seconds_of(device_, stream, 1);
      updates[i] = bytes / seconds_of(device_, update, 1);
    }
    std::sort(updates.begin(), updates.end()), std::sort(streams.begin(), streams.end());
    const double rate = updates[kPairs / 2], limit = streams[kPairs / 2];
    std::printf("%-34s %10.3f %7.1f GB/s %7.0f%%  of x *= s beside it, %.1f GB/s\n", name.c_str(), bytes / rate * 1e3,
                rate * 1e-9, 100 * rate / limit, limit * 1e-9);
  }

  void sums() const {
    Room room(device_);
    const int64_t count = s_.parameters;
    const Tensor x = room.fill(DType::f32, {count}), out_1 = room.make(DType::f64, {1});
    const Tensor sum_scratch = room.scratch(ops_.sum_scratch_bytes());
    memory_line(build_string("sum of squares, ", count, " f32"), static_cast<double>(count) * 4,
                [&] { ops_.sum_squares(stream_, out_1, x, sum_scratch); });
  }

  Device& device_;
  bool on_cpu_;
  const Ops& ops_;
  Shape s_;
  DType dtype_;
  Limits limits_;
  Stream stream_;
};

/// Bytes/s of y = x and of y = y + x, counting reads and writes.
double measure_bandwidth(Device& device, int64_t elements, bool read_modify_write) {
  Room room(device);
  const Stream stream = device.stream(Role::compute);
  const Tensor x = room.make(DType::f32, {elements}), y = room.make(DType::f32, {elements});
  device.fill_zero(x, stream);
  device.fill_zero(y, stream);
  const double bytes = static_cast<double>(x.bytes()) * (read_modify_write ? 3 : 2);
  return bytes / fastest(device, [&] {
           read_modify_write ? device.ops().add(stream, y, x) : device.ops().scale(stream, y, x, 1.0f);
         });
}

struct BenchOptions {
  DeviceKind device = DeviceKind::cpu;
  bool ops = false, adamw = false, tiny = false;
};

void run_bench(const BenchOptions& options) {
  const std::unique_ptr<World> world = make_self_world();
  const std::unique_ptr<Device> device = make_device(options.device, *world, AttentionSource::automatic);
  const Shape shape = options.tiny ? kTiny : Shape{};
  const bool on_cpu = options.device == DeviceKind::cpu;
  if (options.adamw) {
    OpBench(*device, on_cpu, shape, DType::bf16, {}).run_update();
    return;
  }
  const double seconds = options.tiny ? 0.0 : 1.0;
  const auto peak = [&](DType dtype) {
    return on_cpu ? measure_gemm_peak(dtype, seconds) : measure_device_peak(*device, dtype, seconds);
  };
  const double peak_f32 = peak(DType::f32), peak_bf16 = peak(DType::bf16);
  const double copy = measure_bandwidth(*device, shape.stream, false);
  const double update = measure_bandwidth(*device, shape.stream, true);
  std::printf("GEMM f32                %8.1f GFLOP/s\n", peak_f32 * 1e-9);
  std::printf("GEMM bf16               %8.1f GFLOP/s\n", peak_bf16 * 1e-9);
  std::printf("copy, y = x             %8.1f GB/s\n", copy * 1e-9);
  std::printf("read-modify-write, y += x %6.1f GB/s\n", update * 1e-9);
  if (!options.ops) return;
  OpBench(*device, on_cpu, shape, DType::f32, {peak_f32, std::max(copy, update)}).run();
  OpBench(*device, on_cpu, shape, DType::bf16, {peak_bf16, std::max(copy, update)}).run();
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "measure a device: GEMM peak and memory bandwidth");
  const auto options = std::make_shared<BenchOptions>();
  const std::map<std::string, DeviceKind> devices = {
      {"cpu", DeviceKind::cpu}, {"cuda", DeviceKind::cuda}, {"simt", DeviceKind::simt}};
  bench->add_option("--device", options->device, "cpu, cuda, or simt (the emulator: only to see that it runs)")
      ->transform(CLI::CheckedTransformer(devices, CLI::ignore_case));
  bench->add_flag("--tiny", options->tiny, "tiny shapes: to see that every operation runs, not how fast");
  CLI::App* ops = bench->add_subcommand("ops", "also every operation on the shapes of GPT-2 124M");
  CLI::App* adamw =
      bench->add_subcommand("adamw", "only the update, of 100 million parameters, beside a memory stream");
  CLI::App* disk = bench->add_subcommand("disk", "instead, how fast a directory takes and gives back offloaded state");
  const auto directory = std::make_shared<std::string>();
  disk->add_option("DIRECTORY", *directory, "where zero.nvme_path would point; 1 GiB there for a moment")->required();
  CLI::App* comm = bench->add_subcommand(
      "comm", "instead, under mpirun: the collectives between its ranks, beside MPI_Allreduce, from 4 KiB to 256 MiB");
  bench->require_subcommand(0, 1);
  bench->callback([ops, adamw, disk, comm, options, directory] {
    if (comm->parsed()) return bench_comm(options->tiny);
    if (disk->parsed()) return bench_disk(*directory, options->tiny);
    options->ops = ops->parsed();
    options->adamw = adamw->parsed();
    run_bench(*options);
  });
}

}  // namespace trident
