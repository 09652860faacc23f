// trident bench comm: how fast the ranks that mpirun started reduce, gather and broadcast, beside Open MPI's own
// MPI_Allreduce and beside the collectives that we make of MPI messages, all in turn in one run.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/bench.h"
#include "core/base/error.h"
#include "core/base/format.h"
#include "core/comm/grid.h"
#include "core/comm/mpi_session.h"
#include "core/device/device.h"

namespace trident {
namespace {

constexpr double kTimeoutSeconds = 600;
constexpr size_t kLeast = size_t{4} << 10, kMost = size_t{256} << 20, kMostTiny = size_t{64} << 10;

/// What is timed; a column each.
enum Column { kOurs, kMessages, kTheirs, kBf16, kReduceScatter, kAllGather, kBroadcast, kColumns };

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class CommBench {
 public:
  CommBench(const MpiSession& mpi, size_t most)
      : mpi_(mpi),
        world_(make_mpi_world(std::chrono::duration<double>(kTimeoutSeconds))),
        message_world_(make_mpi_world(std::chrono::duration<double>(kTimeoutSeconds), {.shared_memory = false})),
        group_(world_->split(0, "bench")),
        messages_(message_world_->split(0, "bench, messages")),
        device_(make_cpu_device()),
        stream_(device_->stream(Role::compute)),
        memory_(device_->alloc(most, Place::device, "bench")),
        copy_memory_(device_->alloc(most, Place::device, "bench: copy")) {
    std::memset(memory_.data(), 0, most);
    std::memset(copy_memory_.data(), 0, most);
  }

  void run(size_t most) const {
    const double copy = copy_rate(most);
    print(build_string("through ", group_->transport(), ", ", group_->size(), " ranks; every rank copies ",
                       format_fixed(copy * 1e-9, 1), " GB/s while the others do; medians, GB/s of the whole tensor\n"));
    print(build_string(pad_left("f32", 9), pad_left("us", 10), pad_left("all_reduce", 12), pad_left("of copy", 9),
                       pad_left("messages", 10), pad_left("MPI_Allreduce", 15), pad_left("ratio", 7),
                       pad_left("bf16", 8), pad_left("reduce_scatter", 16), pad_left("all_gather", 12),
                       pad_left("broadcast", 11), '\n'));
    for (size_t bytes = kLeast; bytes <= most; bytes *= 2) line(bytes, copy);
  }

 private:
  void print(const std::string& text) const {
    if (group_->rank() == 0) std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  /// Seconds of each, by columns: one of each in turn, so that all meet the same machine.
  std::array<double, kColumns> seconds(size_t bytes) const {
    const auto n = group_->size(), me = group_->rank();
    const auto count = static_cast<int64_t>(bytes / sizeof(float)) / n * n;
    const Tensor x(memory_.data(), DType::f32, {count}), part = x.rows(me * count / n, (me + 1) * count / n);
    const Tensor x_bf16(memory_.data(), DType::bf16, {2 * count});
    const std::array<std::function<void()>, kColumns> calls = {
        [&] { group_->all_reduce(x, Reduce::sum, stream_); },
        [&] { messages_->all_reduce(x, Reduce::sum, stream_); },
        [&] {
          mpi_.all_reduce({x.as<float>(), static_cast<size_t>(count)});
        },
        [&] { group_->all_reduce(x_bf16, Reduce::sum, stream_); },
        [&] { group_->reduce_scatter(part, x, Reduce::sum, stream_); },
        [&] { group_->all_gather(x, part, stream_); },
        [&] { group_->broadcast(x, 0, stream_); }};
    std::array<std::vector<double>, kColumns> times;
    const size_t rounds = std::clamp((size_t{256} << 20) / bytes, size_t{7}, size_t{101});
    for (size_t round = 0; round <= rounds; ++round) {
      for (size_t i = 0; i < kColumns; ++i) {
        group_->barrier();
        const double time = seconds_of(*device_, calls[i], 1);
        if (round > 0) times[i].push_back(time);  // the first one warms up
      }
    }
    std::array<double, kColumns> medians;
    std::transform(times.begin(), times.end(), medians.begin(), median);
    return medians;
  }

  void line(size_t bytes, double copy) const {
    std::array<double, kColumns> rate = seconds(bytes);
    const double microseconds = rate[kOurs] * 1e6;
    for (double& r : rate) r = static_cast<double>(bytes) / r * 1e-9;
    const auto cell = [&](Column column, size_t width) { return pad_left(format_fixed(rate[column], 2), width); };
    print(build_string(pad_left(format_bytes(static_cast<int64_t>(bytes)), 9),
                       pad_left(format_fixed(microseconds, 1), 10), cell(kOurs, 12),
                       pad_left(format_fixed(100e9 * rate[kOurs] / copy, 0) + " %", 9), cell(kMessages, 10),
                       cell(kTheirs, 15), pad_left(format_fixed(rate[kOurs] / rate[kTheirs], 1), 7), cell(kBf16, 8),
                       cell(kReduceScatter, 16), cell(kAllGather, 12), cell(kBroadcast, 11), '\n'));
  }

  /// Bytes/s of a long copy, counted once, while all ranks make one.
  double copy_rate(size_t bytes) const {
    std::vector<double> times;
    for (int i = 0; i < 6; ++i) {
      group_->barrier();
      times.push_back(seconds_of(
          *device_, [&] { std::memcpy(copy_memory_.data(), memory_.data(), bytes); }, 1));
    }
    return static_cast<double>(bytes) / median(times);
  }

  const MpiSession& mpi_;
  std::unique_ptr<World> world_, message_world_;
  std::unique_ptr<Communicator> group_, messages_;
  std::unique_ptr<Device> device_;
  Stream stream_;
  Memory memory_, copy_memory_;
};

}  // namespace

void bench_comm(bool tiny) {
  const MpiSession mpi;
  if (mpi.ranks() == 1) throw UserError("one rank has nobody to talk to: mpirun -n 2 trident bench comm");
  const size_t most = tiny ? kMostTiny : kMost;
  CommBench(mpi, most).run(most);
}

}  // namespace trident
