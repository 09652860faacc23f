// The emulated CUDA runtime, used rightly: order, time, memory, errors.
#include "simt/runtime.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/simt/streams.h"

using namespace trident;
using namespace trident::testing;

namespace {

/// An operation that ends when `go` says so.
void push_gate(cudaStream_t stream, std::shared_ptr<std::atomic<bool>> go) {
  ok(simt::submit(stream, {"gate", {}, [go] { return go->load(); }}));
}

void push_note(cudaStream_t stream, std::vector<int>& notes, int note) {
  ok(simt::stream_push(stream, "note", [&notes, note] { notes.push_back(note); }));
}

}  // namespace

TEST_CASE("a stream keeps its order, an event carries it to another", "[runtime]") {
  under_every_policy([] {
    Bench b;
    for (int round = 0; round < 50; ++round) {
      std::vector<int> notes;
      push_note(b.copy, notes, 1);
      push_note(b.copy, notes, 2);
      ok(cudaEventRecord(b.uploaded, b.copy));
      ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
      push_note(b.compute, notes, 3);
      ok(cudaStreamSynchronize(b.compute));
      REQUIRE(notes == std::vector<int>{1, 2, 3});
    }
  });
}

TEST_CASE("lazy runs only what is waited for", "[runtime]") {
  simt::Settings s = simt::settings();
  s.policy = simt::StreamPolicy::Lazy;
  simt::set_settings(s);
  Bench b;
  int passes = 0;
  // A loaded machine may take longer than the idle rule's 2 ms between two calls: once in many rounds is proof enough.
  for (int round = 0; round < 50; ++round) {
    std::vector<int> notes;
    push_note(b.copy, notes, 1);
    push_note(b.compute, notes, 2);
    ok(cudaStreamSynchronize(b.compute));
    passes += notes == std::vector<int>{2};
    ok(cudaDeviceSynchronize());
    REQUIRE(notes.size() == 2);
  }
  CHECK(passes > 0);
}

TEST_CASE("eager runs at once", "[runtime]") {
  const simt::Settings before = simt::settings();
  simt::Settings s = before;
  s.policy = simt::StreamPolicy::Eager;
  simt::set_settings(s);
  {
    Bench b;
    std::vector<int> notes;
    push_note(b.copy, notes, 1);
    CHECK(notes.size() == 1);
  }
  simt::set_settings(before);
}

TEST_CASE("random takes other orders with other seeds, the same with the same", "[runtime]") {
  const simt::Settings before = simt::settings();
  const auto order = [&](uint64_t seed) {
    simt::Settings s = before;
    s.policy = simt::StreamPolicy::Random;
    s.seed = seed;
    simt::set_settings(s);
    Bench b;
    std::vector<int> notes;
    for (int i = 0; i < 10; ++i) {
      push_note(b.copy, notes, i);
      push_note(b.compute, notes, 100 + i);
    }
    ok(cudaDeviceSynchronize());
    return notes;
  };
  std::vector<std::vector<int>> orders;
  int same = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    orders.push_back(order(seed));
    same += orders.back() == order(seed);  // the idle rule may interfere on a loaded machine
  }
  std::sort(orders.begin(), orders.end());
  CHECK(std::unique(orders.begin(), orders.end()) - orders.begin() >= 4);
  CHECK(same >= 4);
  simt::set_settings(before);
}

TEST_CASE("an idle GPU works through everything", "[runtime]") {
  under_every_policy([] {
    Bench b;
    std::atomic<bool> ran{false};
    ok(simt::stream_push(b.copy, "note", [&ran] { ran = true; }));
    const auto begin = std::chrono::steady_clock::now();
    while (!ran && std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) std::this_thread::yield();
    CHECK(ran);
  });
}

TEST_CASE("an operation that waits for the world does not stop other streams", "[runtime]") {
  under_every_policy([] {
    Bench b;
    const auto go = std::make_shared<std::atomic<bool>>(false);
    push_gate(b.copy, go);
    CHECK(cudaStreamQuery(b.copy) == cudaErrorNotReady);
    // Opens the gate from another stream; waiting for the gate's stream must run it, though nothing orders the two.
    ok(simt::stream_push(b.compute, "open", [go] { *go = true; }));
    ok(cudaStreamSynchronize(b.copy));
    CHECK(cudaStreamQuery(b.copy) == cudaSuccess);
  });
}

TEST_CASE("events tell whether and when", "[runtime]") {
  under_every_policy([] {
    Bench b;
    cudaEvent_t begin, end;
    ok(cudaEventCreate(&begin));
    ok(cudaEventCreate(&end));
    const auto go = std::make_shared<std::atomic<bool>>(false);
    ok(cudaEventRecord(begin, b.copy));
    push_gate(b.copy, go);
    ok(cudaEventRecord(end, b.copy));
    CHECK(cudaEventQuery(end) == cudaErrorNotReady);
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, begin, end) == cudaErrorNotReady);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    *go = true;
    ok(cudaEventSynchronize(end));
    CHECK(cudaEventQuery(end) == cudaSuccess);
    ok(cudaEventElapsedTime(&ms, begin, end));
    CHECK(ms > 5);
    CHECK(ms < 60'000);
    CHECK(cudaEventElapsedTime(&ms, begin, b.computed) == cudaErrorInvalidResourceHandle);
    ok(cudaEventDestroy(begin));
    ok(cudaEventDestroy(end));
    (void)cudaGetLastError();
  });
}

TEST_CASE("pageable memory: read when the call returns, complete when the call returns", "[runtime]") {
  under_every_policy([] {
    Bench b;
    std::vector<float> from(Bench::kCount, 1.5f), to(Bench::kCount);
    ok(cudaMemcpyAsync(b.x, from.data(), Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    from.assign(from.size(), 9);
    ok(cudaMemcpyAsync(to.data(), b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.copy));
    CHECK(to == std::vector<float>(Bench::kCount, 1.5f));
    ok(cudaMemcpy(b.y, to.data(), Bench::kBytes, cudaMemcpyDefault));
    ok(cudaMemcpy(to.data(), b.y, 4, cudaMemcpyDeviceToHost));
    CHECK(to[0] == 1.5f);
  });
}

TEST_CASE("a pinned buffer's untouched neighbours are free while a copy runs", "[runtime]") {
  under_every_policy([] {
    Bench b;
    b.out[999] = 3;
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.copy));
    ok(cudaMemcpyAsync(b.out, b.x, 400, cudaMemcpyDeviceToHost, b.copy));
    CHECK(b.out[999] == 3);  // on the same page as the destination
    b.out[998] = 4;
    ok(cudaStreamSynchronize(b.copy));
    CHECK(b.out[0] == 0);
    CHECK(b.out[998] == 4);
  });
}

TEST_CASE("any thread may call", "[runtime]") {
  under_every_policy([] {
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&right, t] {
        Bench b;
        for (int round = 0; round < 20; ++round) {
          ok(cudaMemsetAsync(b.x, t, Bench::kBytes, b.copy));
          ok(cudaEventRecord(b.uploaded, b.copy));
          ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
          ok(cudaMemcpyAsync(b.out, b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.compute));
          ok(cudaStreamSynchronize(b.compute));
          int word = 0;
          std::memcpy(&word, b.out, sizeof word);
          right += word == t * 0x01010101;
        }
      });
    }
    for (std::thread& t : threads) t.join();
    CHECK(right == 80);
  });
}

TEST_CASE("thousands of operations before one wait", "[runtime]") {
  // Beyond the queue's depth and the numbers of the race cells, which are used again.
  under_every_policy([] {
    Bench b;
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.copy));
    ok(cudaEventRecord(b.uploaded, b.copy));
    ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
    for (int i = 0; i < 2'500; ++i) {
      ok(cudaMemsetAsync(b.x, i & 1, 64, b.compute));
      ok(cudaMemsetAsync(b.y, i & 1, 64, b.copy));
    }
    ok(cudaEventRecord(b.computed, b.compute));
    ok(cudaStreamWaitEvent(b.copy, b.computed, 0));
    ok(cudaMemcpyAsync(b.out, b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.copy));
    ok(cudaStreamSynchronize(b.copy));
    int word = 0;
    std::memcpy(&word, b.out, sizeof word);
    CHECK(word == 0x01010101);
  });
}

TEST_CASE("kernels run in stream order on both streams", "[runtime]") {
  under_every_policy([] {
    Bench b;
    ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    ok(cudaEventRecord(b.uploaded, b.copy));
    ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
    ok(add_one(b.y, b.x, Bench::kCount, b.compute));
    ok(add_one(b.x, b.y, Bench::kCount, b.compute));
    ok(cudaMemcpyAsync(b.out, b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.compute));
    ok(cudaStreamSynchronize(b.compute));
    for (int i = 0; i < Bench::kCount; ++i) REQUIRE(b.out[i] == static_cast<float>(i + 2));
  });
}

TEST_CASE("errors come as CUDA gives them", "[runtime]") {
  Bench b;
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(too_many_threads(b.compute) == cudaErrorInvalidConfiguration);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaSetDevice(99) == cudaErrorInvalidDevice);
  CHECK(cudaSetDevice(0) == cudaSuccess);
  CHECK(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)) == "cudaErrorMemoryAllocation");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  int reserved = 0;
  CHECK(cudaDeviceGetAttribute(&reserved, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) == cudaSuccess);
  CHECK(reserved == 163 * 1024);
  (void)cudaGetLastError();
}

TEST_CASE("memory ends where the card's does", "[runtime]") {
  size_t free_before = 0, free_after = 0, total = 0;
  ok(cudaMemGetInfo(&free_before, &total));
  CHECK(total == simt::settings().memory_bytes);
  void* p = nullptr;
  CHECK(cudaMalloc(&p, total + 1) == cudaErrorMemoryAllocation);
  CHECK(p == nullptr);
  ok(cudaMalloc(&p, 1 << 20));
  ok(cudaMemGetInfo(&free_after, &total));
  CHECK(free_before - free_after == 1 << 20);
  ok(cudaFree(p));
  (void)cudaGetLastError();
}

TEST_CASE("many operations are cheap enough", "[.][cost]") {
  under_every_policy([] {
    Bench b;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 10'000; ++i) ok(cudaMemsetAsync(b.x, 0, 64, b.copy));
    ok(cudaStreamSynchronize(b.copy));
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - begin;
    WARN(spent.count() / 10'000 << " us an operation");
  });
}

TEST_CASE("a machine without GPUs", "[runtime]") {
  const simt::Settings before = simt::settings();
  simt::Settings none = before;
  none.devices = 0;
  simt::set_settings(none);
  int count = -1;
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  cudaStream_t s = nullptr;
  CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaErrorNoDevice);
  simt::set_settings(before);
  (void)cudaGetLastError();
}

TEST_CASE("injected faults come at the n-th call", "[runtime]") {
  simt::inject("cudaMalloc", 3, cudaErrorMemoryAllocation);
  void* p[3] = {};
  CHECK(cudaMalloc(&p[0], 40) == cudaSuccess);
  CHECK(cudaMalloc(&p[1], 40) == cudaSuccess);
  CHECK(cudaMalloc(&p[2], 40) == cudaErrorMemoryAllocation);
  CHECK(cudaMalloc(&p[2], 40) == cudaSuccess);
  for (void* q : p) ok(cudaFree(q));
  (void)cudaGetLastError();
}

TEST_CASE("an injected fault of a kernel comes later and stays", "[runtime]") {
  under_every_policy([] {
    Bench b;
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.compute));
    simt::inject("kernel", 2, cudaErrorECCUncorrectable);
    CHECK(add_one(b.y, b.x, Bench::kCount, b.compute) == cudaSuccess);
    CHECK(cudaStreamSynchronize(b.compute) == cudaSuccess);
    (void)add_one(b.y, b.x, Bench::kCount, b.compute);  // eager: fails at once, as a fast GPU may
    CHECK(cudaStreamSynchronize(b.compute) == cudaErrorECCUncorrectable);
    CHECK(cudaStreamSynchronize(b.copy) == cudaErrorECCUncorrectable);
    CHECK(cudaMemsetAsync(b.y, 0, 4, b.copy) == cudaErrorECCUncorrectable);
    simt::reset_context_error();
    CHECK(cudaStreamSynchronize(b.copy) == cudaSuccess);
    (void)cudaGetLastError();
  });
}
