#include "core/run/device_peak.h"

#include <algorithm>
#include <chrono>

#include "core/base/clock.h"
#include "core/base/error.h"

namespace trident {
namespace {

using Clock = std::chrono::steady_clock;

/// FLOP/s of c = a b^T, all n x n; `repeats` products in a row, so that launching costs nothing.
double square_speed(Device& device, DType dtype, int64_t n, int repeats) {
  const size_t bytes = static_cast<size_t>(n * n) * dtype_bytes(dtype);
  const Memory a = device.alloc(bytes, Place::device, "GEMM peak: a"),
               b = device.alloc(bytes, Place::device, "GEMM peak: b"),
               c = device.alloc(bytes, Place::device, "GEMM peak: c");
  GemmArgs args;
  args.a = Tensor(a.data(), dtype, {n, n}, Place::device);
  args.b = Tensor(b.data(), dtype, {n, n}, Place::device);
  args.c_MN = Tensor(c.data(), dtype, {n, n}, Place::device);
  args.transpose_b = true;
  const size_t scratch_bytes = std::max<size_t>(1, device.ops().scratch_bytes(args));
  const Memory scratch = device.alloc(scratch_bytes, Place::device, "GEMM peak: scratch");
  args.scratch = Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(scratch_bytes)}, Place::device);
  const Stream stream = device.stream(Role::compute);
  device.ops().gemm(stream, args);
  device.synchronize(stream);
  const auto start = Clock::now();
  for (int i = 0; i < repeats; ++i) device.ops().gemm(stream, args);
  device.synchronize(stream);
  const double side = static_cast<double>(n);
  return 2 * side * side * side * repeats / seconds_since(start);
}

}  // namespace

double measure_device_peak(Device& device, DType dtype, double seconds) {
  double best = 0;
  const auto start = Clock::now();
  for (int64_t n = 256; n <= 8192; n *= 2) {
    // The next size takes eight times as long as all before it.
    if (9 * seconds_since(start) > seconds && n > 256) break;
    try {
      best = std::max(best, square_speed(device, dtype, n, n < 1024 ? 1 : 8));
    } catch (const RunError&) {
      break;  // no room for larger matrices beside the model
    }
  }
  return best;
}

}  // namespace trident
