#include "kernels/cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <functional>
#include <numeric>
#include <vector>

#include "core/base/clock.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"

namespace trident {
namespace {

using Clock = std::chrono::steady_clock;

/// Median of the faster half.
double typical_best(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[(times.size() + 1) / 2 / 2];
}

/// FLOP/s of c = a b^T, all n x n.
double measure_square(const Ops& ops, DType dtype, int64_t n, double seconds) {
  const size_t bytes = static_cast<size_t>(n * n) * dtype_bytes(dtype);
  std::vector<char> a(bytes), b(bytes), c(bytes);
  GemmArgs args;
  args.a = Tensor(a.data(), dtype, {n, n});
  args.b = Tensor(b.data(), dtype, {n, n});
  args.c_MN = Tensor(c.data(), dtype, {n, n});
  args.transpose_b = true;
  std::vector<char> scratch(std::max<size_t>(1, ops.scratch_bytes(args)));
  args.scratch = Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(scratch.size())});
  ops.gemm(Stream{}, args);  // pages and caches are cold, the team asleep
  std::vector<double> times;
  const auto start = Clock::now();
  do {
    const auto begin = Clock::now();
    ops.gemm(Stream{}, args);
    times.push_back(seconds_since(begin));
  } while (seconds_since(start) < seconds);
  const double side = static_cast<double>(n);
  return 2 * side * side * side / typical_best(std::move(times));
}

}  // namespace

double measure_gemm_peak(DType dtype, double seconds) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  double best = 0;
  const auto start = Clock::now();
  for (const int64_t n : {1024, 1536, 2048}) {
    if (best > 0 && seconds_since(start) >= seconds) break;
    best = std::max(best, measure_square(*ops, dtype, n, seconds / 3));
  }
  return best;
}

void stream_through(float* x, int64_t n, float factor) {
  constexpr int64_t kLine = 16;
  cpu::parallel_range(cpu::ceil_div(n, kLine), n, [&](int64_t begin, int64_t end) {
    const int64_t last = std::min(end * kLine, n);
    for (int64_t i = begin * kLine; i < last; ++i) x[i] *= factor;
  });
}

uint32_t read_through(const float* x, int64_t n) {
  constexpr int64_t kRun = 64, kAhead = 512;
  std::atomic<uint32_t> bits{0};
  cpu::parallel_range(n / kRun, n, [&](int64_t begin, int64_t end) {
    uint32_t seen[kRun] = {};
    for (int64_t run = begin; run < end; ++run) {
      for (int64_t line = 0; line < kRun; line += 16) __builtin_prefetch(x + run * kRun + kAhead + line);
      for (int64_t i = 0; i < kRun; ++i) seen[i] |= std::bit_cast<uint32_t>(x[run * kRun + i]);
    }
    bits |= std::accumulate(seen, seen + kRun, 0u, std::bit_or<uint32_t>());
  });
  for (int64_t i = n / kRun * kRun; i < n; ++i) bits |= std::bit_cast<uint32_t>(x[i]);
  return bits;
}

}  // namespace trident
