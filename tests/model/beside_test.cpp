// Collectives beside the compute stream: a device whose tensor stream runs its work as late as it may, when compute
// waits for it. What had been computed by then could have been computed beside it.
#include <functional>
#include <vector>

#include "core/model/linear.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr int64_t kTokens = 4, kRows = kTokens / 2, kInputs = 3, kOutputs = 2;

/// The CPU device, with a tensor stream that is late.
class LateDevice final : public Device {
 public:
  LateDevice() : cpu_(make_cpu_device(0, make_reference_ops())) {}

  Memory alloc(size_t bytes, Place place, std::string_view name) override { return cpu_->alloc(bytes, place, name); }
  std::vector<Allocation> allocations() const override { return cpu_->allocations(); }
  void copy(Tensor dst, Tensor src, Stream stream) override { cpu_->copy(dst, src, stream); }
  void fill_zero(Tensor t, Stream stream) override { cpu_->fill_zero(t, stream); }
  Stream stream(Role role) override { return role == Role::tensor ? late() : cpu_->stream(role); }
  Event record(Stream stream) override { return is_late(stream) ? Event{&work_, 0} : cpu_->record(stream); }
  void wait(Stream stream, Event event) override {
    if (is_late(stream)) return;  // compute runs in place: it has passed
    if (event.handle != &work_) return cpu_->wait(stream, event);
    for (const auto& piece : work_) piece();
    work_.clear();
  }
  void synchronize(Stream stream) override { cpu_->synchronize(stream); }
  void synchronize(Event event) override { cpu_->synchronize(event); }
  bool passed(Event event) override { return cpu_->passed(event); }
  const Ops& ops() const override { return cpu_->ops(); }

  /// For the communicator. On any other stream the work is done at once.
  void submit(Stream stream, std::function<void()> piece) {
    if (is_late(stream)) return work_.push_back(std::move(piece));
    piece();
  }

 private:
  Stream late() { return {&work_}; }
  bool is_late(Stream stream) const { return stream.handle == &work_; }

  std::unique_ptr<Device> cpu_;
  std::vector<std::function<void()>> work_;
};

/// Rank 0 of two that are alike. Looks at `seen` when a collective runs.
class Twins final : public Communicator {
 public:
  explicit Twins(LateDevice& device) : device_(device) {}

  int rank() const override { return 0; }
  int size() const override { return 2; }
  std::string_view axis() const override { return "tensor"; }
  void all_reduce(Tensor inout, Reduce, Stream stream) override {
    device_.submit(stream, [=, this] {
      when_summed();
      for (int64_t i = 0; i < inout.numel(); ++i) inout.as<float>()[i] *= 2;
    });
  }
  void reduce_scatter(Tensor shard, Tensor, Reduce, Stream stream) override { all_reduce(shard, Reduce::sum, stream); }
  void all_gather(Tensor full, Tensor shard, Stream stream) override {
    device_.submit(stream, [=, this] {
      when_gathered();
      for (int64_t i = 0; i < full.numel(); ++i) full.as<float>()[i] = shard.as<float>()[i % shard.numel()];
    });
  }
  void broadcast(Tensor, int, Stream) override {}
  void send(Tensor, int, int, Stream) override {}
  void recv(Tensor, int, int, Stream) override {}
  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte>) override { return {}; }
  void barrier() override {}

  std::function<void()> when_gathered, when_summed;

 private:
  LateDevice& device_;
};

std::vector<float> ramp(int64_t count, float first) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  return values;
}

Tensor view(std::vector<float>& values, int64_t rows, int64_t columns) {
  return Tensor(values.data(), DType::f32, {rows, columns});
}

/// dx and dw of one column-parallel layer; what was done when each collective ran goes to the flags.
struct Outcome {
  std::vector<float> dx, dw;
  bool input_done_when_gathered = false, weight_done_when_summed = false;
  int gathers = 0, sums = 0;
};

Outcome run(int64_t rows) {
  LateDevice device;
  Twins twins(device);
  std::vector<float> w = ramp(kOutputs * kInputs, 1), x = ramp(rows * kInputs, 2), dy = ramp(kTokens * kOutputs, 3);
  Outcome out{.dx = std::vector<float>(kTokens * kInputs), .dw = std::vector<float>(w.size())};
  twins.when_gathered = [&] {
    ++out.gathers;
    out.input_done_when_gathered = out.dx.back() != 0;
  };
  twins.when_summed = [&] {
    ++out.sums;
    out.weight_done_when_summed = out.dw.back() != 0;
  };
  std::vector<char> bytes(1 << 16);
  Arena scratch(bytes.data(), bytes.size(), Place::host);
  std::vector<int32_t> ids(kTokens);
  Exec ex{.ops = device.ops(),
          .device = device,
          .stream = device.stream(Role::compute),
          .scratch = scratch,
          .tensor = twins};
  ex.micro.tokens_T = Tensor(ids.data(), DType::i32, {kTokens});
  const BlockParams params{.value = {view(w, kOutputs, kInputs)}, .grad = {view(out.dw, kOutputs, kInputs)}};
  const Tensor dx = Linear{}.backward(ex, params, view(out.dx, kTokens, kInputs), view(dy, kTokens, kOutputs),
                                      view(x, rows, kInputs));
  CHECK(dx.dim[0] == rows);
  return out;
}

}  // namespace

TEST_CASE("backward of a column-parallel layer: the sum of dx runs beside the product of the weights' gradient") {
  const int64_t rows = GENERATE(kTokens, kRows);
  const Outcome out = run(rows);
  CHECK(out.sums == 1);
  CHECK(out.weight_done_when_summed);
  CHECK(out.gathers == (rows == kRows ? 1 : 0));
  CHECK(out.input_done_when_gathered == (rows == kRows));
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t k = 0; k < kInputs; ++k) {
      float want = 0;
      for (int64_t n = 0; n < kOutputs; ++n) {
        want += 2 * static_cast<float>((3 + t * kOutputs + n) * (1 + n * kInputs + k));
      }
      CHECK(out.dx[static_cast<size_t>(t * kInputs + k)] == want);
    }
  }
  for (int64_t n = 0; n < kOutputs; ++n) {
    for (int64_t k = 0; k < kInputs; ++k) {
      float want = 0;
      for (int64_t t = 0; t < kTokens; ++t) {
        want += static_cast<float>((3 + t * kOutputs + n) * (2 + t % rows * kInputs + k));
      }
      CHECK(out.dw[static_cast<size_t>(n * kInputs + k)] == want);
    }
  }
}
