#include "apps/bench.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "kernels/cpu/peak.h"

namespace trident {
namespace {

float number(int64_t i) { return static_cast<float>(i * 7919 % 1013) / 1013.0f - 0.5f; }

}  // namespace

Tensor Room::make(DType dtype, std::initializer_list<int64_t> shape) {
  Tensor t(nullptr, dtype, shape);
  memory_.push_back(device_.alloc(t.bytes(), Place::device, "bench"));
  t.data = memory_.back().data();
  t.place = Place::device;
  return t;
}

Tensor Room::fill(DType dtype, std::initializer_list<int64_t> shape) {
  return dtype == DType::f32 ? upload<float>(make(dtype, shape), number) : upload<bf16>(make(dtype, shape), number);
}

Tensor Room::ids(int64_t n, int64_t vocabulary) {
  return upload<int32_t>(make(DType::i32, {n}), [&](int64_t i) { return i * 7919 % vocabulary; });
}

template <class T, class Value>
Tensor Room::upload(Tensor t, Value value) {
  std::vector<T> host(static_cast<size_t>(t.numel()));
  for (int64_t i = 0; i < t.numel(); ++i) host[static_cast<size_t>(i)] = static_cast<T>(value(i));
  const Stream stream = device_.stream(Role::compute);
  device_.copy(t.flat(), Tensor(host.data(), t.dtype, {t.numel()}), stream);
  device_.synchronize(stream);
  return t;
}

double seconds_of(Device& device, const std::function<void()>& call, int calls) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (int i = 0; i < calls; ++i) call();
  device.synchronize(device.stream(Role::compute));
  return std::chrono::duration<double>(Clock::now() - start).count() / calls;
}

int calls_of_a_sample(double seconds_of_one) {
  constexpr double kShort = 2e-3;
  return std::clamp(static_cast<int>(kShort / seconds_of_one), 1, 16);
}

double fastest(Device& device, const std::function<void()>& call) {
  seconds_of(device, call, 1);
  double best = seconds_of(device, call, 1), total = best;
  const int calls = calls_of_a_sample(best);
  for (int i = 0; i < 3 || (i < 20 && total < 0.3); ++i) {
    const double seconds = seconds_of(device, call, calls);
    best = std::min(best, seconds);
    total += seconds * calls;
  }
  return best;
}

MemoryStream::MemoryStream(Device& device, bool on_cpu, int64_t elements)
    : device_(device), on_cpu_(on_cpu), room_(device), x_(room_.make(DType::f32, {elements})) {
  device_.fill_zero(x_, device_.stream(Role::compute));
}

double MemoryStream::run(double bytes, Traffic traffic) const {
  const bool reads_alone = traffic == Traffic::reading && on_cpu_;
  const double per_element = reads_alone ? sizeof(float) : 2 * sizeof(float);
  const int64_t half = x_.numel() / 2, most = traffic == Traffic::elsewhere ? half : x_.numel();
  const int64_t n = std::clamp<int64_t>(static_cast<int64_t>(bytes / per_element), 1, most);
  const Tensor x = x_.rows(0, n);
  if (reads_alone) {
    static_cast<void>(read_through(x.as<float>(), n));
  } else if (traffic == Traffic::elsewhere && on_cpu_) {
    device_.ops().scale(device_.stream(Role::compute), x_.rows(half, half + n), x, 1.0f);
  } else if (on_cpu_) {
    stream_through(x.as<float>(), x.numel(), 1.0f);
  } else {
    device_.ops().scale(device_.stream(Role::compute), x, x, 1.0f);
  }
  return per_element * static_cast<double>(x.numel());
}

BesideStream beside_stream(Device& device, const MemoryStream& memory, double bytes, Traffic traffic,
                           const std::function<void()>& call) {
  constexpr size_t kPairs = 7;
  double moved = 0;
  const auto stream = [&] { moved = memory.run(bytes, traffic); };
  seconds_of(device, call, 1), seconds_of(device, stream, 1);
  const int calls = calls_of_a_sample(seconds_of(device, call, 1)),
            passes = calls_of_a_sample(seconds_of(device, stream, 1));
  std::array<double, kPairs> seconds, rates;
  for (size_t i = 0; i < kPairs; ++i) {
    const double passed = seconds_of(device, stream, passes);
    rates[i] = moved / passed;
    seconds[i] = seconds_of(device, call, calls);
  }
  std::sort(seconds.begin(), seconds.end()), std::sort(rates.begin(), rates.end());
  return {seconds[kPairs / 2], rates[kPairs / 2]};
}

}  // namespace trident
