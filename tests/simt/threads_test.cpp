// Threads, warps and blocks: orders, indices, collectives, barriers, shared memory, and any OS thread as the device's.
#include <thread>

#include "simt/emulated.h"
#include "simt/kernels.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::simt_tests;

namespace {

constexpr simt::Order kOrders[] = {simt::Order::Ascending, simt::Order::Descending, simt::Order::Random};

}  // namespace

TEST_CASE("simt: every thread runs once with its own indices") {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  const size_t n = 12 * 60;
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    uint3* threads = device.uninitialised<uint3>(n);
    uint3* blocks = device.uninitialised<uint3>(n);
    device.run(indices_kernel, grid, block, 0, threads, blocks);
    size_t wrong = 0;
    for (unsigned i = 0; i < n; ++i) {
      const unsigned t = i % 60, b = i / 60;
      wrong += threads[i].x != t % 5 || threads[i].y != t / 5 % 4 || threads[i].z != t / 20;
      wrong += blocks[i].x != b % 3 || blocks[i].y != b / 3 % 2 || blocks[i].z != b / 6;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("simt: shuffles and votes") {
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    int* out = device.uninitialised<int>(8 * 64);
    device.run(shuffles_kernel, dim3(1), dim3(64), 0, out);
    for (int t = 0; t < 64; ++t) {
      INFO("thread " << t);
      const int lane = t % 32, warp = t - lane;
      const auto row = [&](int r) { return out[r * 64 + t]; };
      CHECK(row(0) == (warp + 5) * 10);
      CHECK(row(1) == (t / 8 * 8 + 3) * 10);
      CHECK(row(2) == (t ^ 5) * 10);
      CHECK(row(3) == (lane >= 3 ? t - 3 : t) * 10);
      CHECK(row(4) == (t % 8 < 6 ? t + 2 : t) * 10);
      unsigned ballot = 0;
      for (int l = 0; l < 32; ++l) ballot |= ((warp + l) % 3 == 0 ? 1u : 0u) << l;
      CHECK(static_cast<unsigned>(row(5)) == ballot);
      CHECK(row(6) == (warp == 32));
      CHECK(row(7) == (warp == 0));
    }
  }
}

TEST_CASE("simt: two masks of a warp in use at once") {
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    unsigned* out = device.uninitialised<unsigned>(32);
    device.run(partial_masks_kernel, dim3(1), dim3(32), 0, out);
    for (unsigned t = 0; t < 32; ++t) CHECK(out[t] == (t < 12 ? (t ^ 1) + 0x555 : 12));
  }
}

TEST_CASE("simt: barriers that count") {
  for (int limit : {0, 1, 77, 128}) {
    Emulated device;
    int* out = device.uninitialised<int>(128);
    device.run(barrier_results_kernel, dim3(1), dim3(128), 0, out, limit);
    const int expected = limit * 4 + (limit == 128) * 2 + (limit > 0);
    for (int t = 0; t < 128; ++t) CHECK(out[t] == expected);
  }
}

TEST_CASE("simt: threads that leave before a barrier") {
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    float* out = device.uninitialised<float>(96);
    CHECK(device.report(leave_before_barrier_kernel, dim3(1), dim3(96), 0, out, 70u).find("26 exited threads") !=
          std::string::npos);
    simt::opt.strict = false;  // as hardware: those that left are not waited for
    device.run(leave_before_barrier_kernel, dim3(1), dim3(96), 0, out, 70u);
    for (unsigned t = 0; t < 70; ++t) CHECK(out[t] == static_cast<float>(69 - t));
    device.run(leave_before_barrier_kernel, dim3(1), dim3(96), 0, out, 96u);
    CHECK(out[95] == 0.0f);
  }
}

TEST_CASE("simt: dynamic shared memory, equal bits in every order") {
  std::vector<float> first;
  for (simt::Order order : kOrders) {
    Emulated device;
    simt::opt.order = order;
    std::vector<float> in(5 * 128);
    for (size_t i = 0; i < in.size(); ++i) in[i] = 1.0f / static_cast<float>(i + 3);
    float* out = device.uninitialised<float>(5);
    device.run(block_sum_kernel, dim3(5), dim3(128), 128 * sizeof(float), out, device.upload(in));
    const std::vector<float> sums = device.download(out, 5);
    if (first.empty()) first = sums;
    CHECK(sums == first);
  }
  CHECK(first[0] > 3.0f);
}

TEST_CASE("simt: atomics from all blocks") {
  Emulated device;
  simt::opt.order = simt::Order::Random;
  unsigned* out = device.upload<unsigned>({0, 0});
  device.run(atomic_sum_kernel, dim3(7), dim3(64), 0, out);
  CHECK(out[0] == 7 * 64 * 65 / 2);
  CHECK(out[1] == 1);
}

TEST_CASE("simt: any thread of the process may run a kernel") {
  Emulated device;
  const float* in = device.numbers<float>(128);
  float* out = device.uninitialised<float>(1);
  const auto run = [&] {
    device.run(block_sum_kernel, dim3(1), dim3(128), 512, out, in);
    uint32_t* words = device.uninitialised<uint32_t>(32);
    device.run(matrices_kernel, dim3(1), dim3(32), 0, words, true);  // static shared memory is the thread's own
  };
  run();
  for (int i = 0; i < 2; ++i) {
    out[0] = 0;
    std::string failed;
    std::thread([&] {
      try {
        run();
      } catch (const simt::Error& error) {
        failed = error.msg;
      }
    }).join();
    CHECK(failed == "");
    CHECK(out[0] == 127.0f * 64.0f);
  }
}

TEST_CASE("simt: the device heap") {
  Emulated device;
  char* p = static_cast<char*>(simt::dev_alloc(1000));
  CHECK(reinterpret_cast<uintptr_t>(p) % 256 == 0);
  CHECK(simt::dev_contains(p));
  CHECK_FALSE(simt::dev_contains(&device));
  CHECK(simt::dev_extent(p + 10) == 990);
  CHECK(simt::dev_extent(p + 1000) == 0);
  CHECK_THROWS_AS(simt::dev_require(p + 10, 991, "copy"), simt::Error);
  CHECK_NOTHROW(simt::dev_require(p + 10, 990, "copy"));
  CHECK_THROWS_AS(simt::dev_free(p + 1), simt::Error);
  simt::dev_free(p);
  CHECK_THROWS_AS(simt::dev_free(p), simt::Error);
  CHECK(simt::dev_alloc(size_t{5} << 30) == nullptr);
  void* next = simt::dev_alloc(1000);  // freed addresses stay unused until the arena has been used once
  CHECK(next != p);
  simt::dev_free(next);
}

// Writes 12 GB: test_simt "[.slow]".
TEST_CASE("simt: the device heap goes round its arena", "[.slow]") {
  Emulated device;
  for (int i = 0; i < 12; ++i) {
    void* large = simt::dev_alloc(size_t{1} << 30);
    REQUIRE(large != nullptr);
    simt::dev_free(large);
  }
}

TEST_CASE("simt: copies and library calls are checked as operations") {
  if (!simt::checked) return;
  Emulated device;
  const char* uninitialised = device.uninitialised<char>(64);
  CHECK_THROWS_AS(simt::dev_op_access(uninitialised, 64, false, "copy"), simt::Error);
  char* a = device.numbers<char>(64);
  ++simt::blk.launch;
  simt::dev_op_access(a, 64, true, "copy");
  ++simt::blk.launch;
  CHECK_NOTHROW(simt::dev_op_access(a, 64, false, "copy"));
  simt::ops_ordered = [](uint64_t, uint64_t) { return false; };
  ++simt::blk.launch;
  CHECK_THROWS_AS(simt::dev_op_access(a + 63, 1, true, "copy"), simt::Error);
  SECTION("operations too far back to be told apart are forgotten, not confused") {
    simt::blk.launch += uint64_t{1} << 20;
    CHECK_NOTHROW(simt::dev_op_access(a, 64, true, "copy"));
  }
  simt::ops_ordered = nullptr;
}
