// How fast the emulator is. Not part of a test run: test_simt "[.speed]" prints nanoseconds per operation and thread.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "simt/emulated.h"
#include "simt/kernels.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

/// The processor's time, not the clock's: the machine may be busy.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class F>
void measure(const char* name, double operations, F run) {
  run();
  double best = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double begin = cpu_seconds();
    run();
    best = std::min(best, cpu_seconds() - begin);
  }
  std::printf("%-12s %8.2f ns per operation and thread, %8.1f per warp\n", name, best / operations * 1e9,
              32 * best / operations * 1e9);
}

}  // namespace

TEST_CASE("simt: speed", "[.speed]") {
  Emulated device;
  constexpr int kThreads = 1 << 18, kTimes = 24;
  float* out = device.numbers<float>(kThreads);
  const float* a = device.numbers<float>(kThreads);
  const dim3 many(kThreads / 256), few(kThreads / 256 / 16), block(256);
  const double times = double{kThreads} / 16 * kTimes;
  std::printf("%s mode\n", simt::checked ? "checked" : "fast");
  measure("empty", kThreads, [&] { device.run(empty_kernel, many, block, 0, out); });
  measure("saxpy", kThreads, [&] { device.run(saxpy_kernel, many, block, 0, out, a, kThreads); });
  measure("barrier", times, [&] { device.run(barrier_kernel, few, block, 0, out, kTimes); });
  measure("shuffle", times, [&] { device.run(shuffle_kernel, few, block, 0, out, kTimes); });
  measure("ldmatrix", times, [&] { device.run(ldmatrix_kernel, few, block, 0, out, kTimes); });
  measure("mma bf16", times, [&] { device.run(mma_kernel, few, block, 0, out, kTimes, false); });
  measure("mma f16", times, [&] { device.run(mma_kernel, few, block, 0, out, kTimes, true); });
  measure("mma row of 8", times, [&] { device.run(mma_row_kernel, few, block, 0, out, kTimes); });
}
