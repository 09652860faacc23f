// trident bench: what a device can do (GEMM peak, memory bandwidth); its subcommands are in cmd_bench_*.cpp.
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "apps/bench.h"
#include "apps/commands.h"
#include "core/comm/grid.h"
#include "core/run/device_peak.h"
#include "core/run/run.h"
#include "kernels/cpu/peak.h"

namespace trident {
namespace {

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
  bool ops = false, adamw = false, attention = false, tiny = false;
  int64_t context = 1024, tokens = 4096;  // of attention
};

void run_bench(const BenchOptions& options) {
  const std::unique_ptr<World> world = make_self_world();
  const std::unique_ptr<Device> device = make_device(options.device, *world, AttentionSource::automatic);
  const BenchShape shape = options.tiny ? kTinyBench : BenchShape{};
  const bool on_cpu = options.device == DeviceKind::cpu;
  if (options.adamw) return bench_adamw(*device, on_cpu, shape);
  if (options.attention) return bench_attention(*device, options.context, options.tokens);
  const double seconds = options.tiny ? 0.0 : 1.0;
  const auto peak = [&](DType dtype) {
    return on_cpu ? measure_gemm_peak(dtype, seconds) : measure_device_peak(*device, dtype, seconds);
  };
  std::printf("GEMM f32                %8.1f GFLOP/s\n", peak(DType::f32) * 1e-9);
  std::printf("GEMM bf16               %8.1f GFLOP/s\n", peak(DType::bf16) * 1e-9);
  std::printf("copy, y = x             %8.1f GB/s\n", measure_bandwidth(*device, shape.stream, false) * 1e-9);
  std::printf("read-modify-write, y += x %6.1f GB/s\n", measure_bandwidth(*device, shape.stream, true) * 1e-9);
  if (options.ops) bench_ops(*device, on_cpu, shape, peak);
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
  CLI::App* attention = bench->add_subcommand("attention", "only causal attention in bf16, 12 heads of 64");
  attention->add_option("--context", options->context, "tokens of a sequence")->capture_default_str();
  attention->add_option("--tokens", options->tokens, "tokens of all sequences, a multiple of the context")
      ->capture_default_str();
  CLI::App* disk = bench->add_subcommand("disk", "instead, how fast a directory takes and gives back offloaded state");
  const auto directory = std::make_shared<std::string>();
  disk->add_option("DIRECTORY", *directory, "where zero.nvme_path would point; 1 GiB there for a moment")->required();
  CLI::App* comm = bench->add_subcommand(
      "comm", "instead, under mpirun: the collectives between its ranks, beside MPI_Allreduce, from 4 KiB to 256 MiB");
  bench->require_subcommand(0, 1);
  bench->callback([ops, adamw, attention, disk, comm, options, directory] {
    if (comm->parsed()) return bench_comm(options->tiny);
    if (disk->parsed()) return bench_disk(*directory, options->tiny);
    options->ops = ops->parsed();
    options->adamw = adamw->parsed();
    options->attention = attention->parsed();
    run_bench(*options);
  });
}

}  // namespace trident
