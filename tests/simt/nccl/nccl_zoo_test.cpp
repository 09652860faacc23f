// The zoo of communication bugs: each seeded mistake must be reported under every stream policy, on the ranks that can
// know, and its clean twin must not.
#include <functional>
#include <thread>

#include "simt/nccl/ranks.h"

using namespace trident;
using namespace trident::testing;
using simt::CollectReports;
using simt::Report;
using simt::ReportKind;

namespace {

/// Runs `scene` under every policy; `kind` must be reported by some rank, or nothing by any.
void stage(const std::function<void(Group&, cudaStream_t)>& scene, const ReportKind* kind) {
  simt::Settings s = simt::settings();
  const simt::Settings before = s;
  // Short where a stall is the point; elsewhere a busy machine must not look like one.
  s.nccl_timeout_seconds = kind != nullptr && *kind == ReportKind::nccl_stall ? 1 : 60;
  simt::set_settings(s);
  under_every_policy([&] {
    CollectReports collect;
    {
      Group g;
      const OwnStream stream;
      scene(g, stream);
      (void)cudaDeviceSynchronize();
      barrier();
      if (kind != nullptr) g.abort();
    }
    const std::vector<Report> reports = collect.take();
    int mine = 0, all = 0;
    for (const Report& r : reports) mine += kind == nullptr || r.kind == *kind;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    INFO("rank " << world_rank() << " reports:\n" << listed(reports));
    if (kind != nullptr) {
      CHECK(all > 0);
    } else {
      CHECK(all == 0);
    }
  });
  simt::set_settings(before);
}

void must_report(ReportKind kind, const std::function<void(Group&, cudaStream_t)>& scene) { stage(scene, &kind); }
void must_be_silent(const std::function<void(Group&, cudaStream_t)>& scene) { stage(scene, nullptr); }

ncclResult_t all_reduce(const Values<float>& x, size_t count, const Group& g, cudaStream_t s) {
  return ncclAllReduce(x.at(), x.at(), count, ncclFloat32, ncclSum, g.comm, s);
}

/// An all-reduce on one stream and a use of its result on another.
void reduce_and_use(Group& g, cudaStream_t s, bool wait, const std::function<void(float*, float*, cudaStream_t)>& use) {
  const OwnStream compute;
  const Values<float> x(100, 1.0f), y(100);
  cudaEvent_t reduced;
  ok(cudaEventCreateWithFlags(&reduced, cudaEventDisableTiming));
  ok(all_reduce(x, 100, g, s));
  ok(cudaEventRecord(reduced, s));
  if (wait) ok(cudaStreamWaitEvent(compute, reduced, 0));
  use(y.at(), x.at(), compute);
  (void)cudaDeviceSynchronize();
  ok(cudaEventDestroy(reduced));
}

}  // namespace

TEST_CASE("zoo: a copy that does not wait for the all-reduce", "[ranks=2]") {
  const auto copy = [](float* y, float* x, cudaStream_t s) {
    ok(cudaMemcpyAsync(y, x, 400, cudaMemcpyDeviceToDevice, s));
  };
  must_report(ReportKind::race, [&](Group& g, cudaStream_t s) { reduce_and_use(g, s, false, copy); });
  must_be_silent([&](Group& g, cudaStream_t s) { reduce_and_use(g, s, true, copy); });
}

TEST_CASE("zoo: a kernel that does not wait for the all-reduce", "[ranks=2]") {
  const auto kernel = [](float* y, float* x, cudaStream_t s) { ok(add_one(y, x, 100, s)); };
  must_report(ReportKind::race, [&](Group& g, cudaStream_t s) { reduce_and_use(g, s, false, kernel); });
  must_be_silent([&](Group& g, cudaStream_t s) { reduce_and_use(g, s, true, kernel); });
}

TEST_CASE("zoo: an all-reduce that does not wait for what fills its input", "[ranks=2]") {
  const auto fill = [](Group& g, cudaStream_t s, bool wait) {
    const OwnStream compute;
    const Values<float> x(100);
    cudaEvent_t filled;
    ok(cudaEventCreateWithFlags(&filled, cudaEventDisableTiming));
    ok(cudaMemsetAsync(x.at(), 0, 400, compute));
    ok(cudaEventRecord(filled, compute));
    if (wait) ok(cudaStreamWaitEvent(s, filled, 0));
    ok(all_reduce(x, 100, g, s));
    (void)cudaDeviceSynchronize();
    ok(cudaEventDestroy(filled));
  };
  must_report(ReportKind::race, [&](Group& g, cudaStream_t s) { fill(g, s, false); });
  must_be_silent([&](Group& g, cudaStream_t s) { fill(g, s, true); });
}

TEST_CASE("zoo: a gradient buffer reused while it is being sent", "[ranks=2]") {
  const auto reuse = [](Group& g, cudaStream_t s, bool wait) {
    const OwnStream compute;
    const Values<float> x(100), y(100);
    ok(ncclGroupStart());
    ok(ncclSend(x.at(), 100, ncclFloat32, 1 - g.rank, g.comm, s));
    ok(ncclRecv(y.at(), 100, ncclFloat32, 1 - g.rank, g.comm, s));
    ok(ncclGroupEnd());
    if (wait) ok(cudaStreamSynchronize(s));
    ok(cudaMemsetAsync(x.at(), 1, 400, compute));
    (void)cudaDeviceSynchronize();
  };
  must_report(ReportKind::race, [&](Group& g, cudaStream_t s) { reuse(g, s, false); });
  must_be_silent([&](Group& g, cudaStream_t s) { reuse(g, s, true); });
}

TEST_CASE("zoo: counts differ", "[ranks=2]") {
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(all_reduce(x, g.rank == 1 ? 99 : 100, g, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: one rank of three has another count", "[ranks=3]") {
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(all_reduce(x, g.rank == 1 ? 99 : 100, g, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: types differ", "[ranks=2]") {
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(ncclAllReduce(x.at(), x.at(), 100, g.rank == 1 ? ncclBfloat16 : ncclFloat32, ncclSum, g.comm, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: operations and roots differ", "[ranks=2]") {
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(ncclAllReduce(x.at(), x.at(), 100, ncclFloat32, g.rank == 1 ? ncclMax : ncclSum, g.comm, s));
    (void)cudaDeviceSynchronize();
  });
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(ncclBroadcast(x.at(), x.at(), 100, ncclFloat32, g.rank, g.comm, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: ranks call in another order", "[ranks=2]") {
  const auto two = [](Group& g, cudaStream_t s, bool swapped) {
    const Values<float> x(100), y(200);
    if (swapped) ok(ncclAllGather(x.at(), y.at(), 100, ncclFloat32, g.comm, s));
    ok(all_reduce(x, 100, g, s));
    if (!swapped) ok(ncclAllGather(x.at(), y.at(), 100, ncclFloat32, g.comm, s));
    (void)cudaDeviceSynchronize();
  };
  must_report(ReportKind::nccl_mismatch, [&](Group& g, cudaStream_t s) { two(g, s, g.rank == 1); });
  must_be_silent([&](Group& g, cudaStream_t s) { two(g, s, true); });
}

TEST_CASE("zoo: a rank stays away", "[ranks=2]") {
  must_report(ReportKind::nccl_stall, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    if (g.rank == 0) ok(all_reduce(x, 100, g, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: two ranks both send first", "[ranks=2]") {
  const auto exchange = [](Group& g, cudaStream_t s, bool grouped) {
    const Values<float> x(10), y(10);
    if (grouped) ok(ncclGroupStart());
    ok(ncclSend(x.at(), 10, ncclFloat32, 1 - g.rank, g.comm, s));
    ok(ncclRecv(y.at(), 10, ncclFloat32, 1 - g.rank, g.comm, s));
    if (grouped) ok(ncclGroupEnd());
    (void)cudaDeviceSynchronize();
  };
  must_report(ReportKind::nccl_stall, [&](Group& g, cudaStream_t s) { exchange(g, s, false); });
  must_be_silent([&](Group& g, cudaStream_t s) { exchange(g, s, true); });
}

TEST_CASE("zoo: a message of another size than expected", "[ranks=2]") {
  must_report(ReportKind::nccl_mismatch, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    if (g.rank == 0) ok(ncclSend(x.at(), 100, ncclFloat32, 1, g.comm, s));
    if (g.rank == 1) ok(ncclRecv(x.at(), 50, ncclFloat32, 0, g.comm, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: a group that sends what it receives into", "[ranks=2]") {
  must_report(ReportKind::race, [](Group& g, cudaStream_t s) {
    const Values<float> x(100);
    ok(ncclGroupStart());
    ok(ncclSend(x.at(), 100, ncclFloat32, 1 - g.rank, g.comm, s));
    ok(ncclRecv(x.at(50), 50, ncclFloat32, 1 - g.rank, g.comm, s));
    ok(ncclGroupEnd());
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: a receive buffer that is too small", "[ranks=2]") {
  must_report(ReportKind::out_of_bounds, [](Group& g, cudaStream_t s) {
    const Values<float> x(100), y(100);
    (void)ncclAllGather(x.at(), y.at(), 100, ncclFloat32, g.comm, s);
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("zoo: buffers that overlap, but not in place", "[ranks=2]") {
  must_report(ReportKind::nccl_usage, [](Group& g, cudaStream_t s) {
    const Values<float> x(200);
    ok(ncclAllReduce(x.at(), x.at(1), 100, ncclFloat32, ncclSum, g.comm, s));
    (void)cudaDeviceSynchronize();
  });
}

TEST_CASE("an injected remote error is seen by polling, and the abort frees the stream", "[ranks=2]") {
  under_every_policy([] {
    Group g;
    const OwnStream stream;
    const Values<float> x(100);
    simt::inject("collective", 2, ncclRemoteError);
    ok(all_reduce(x, 100, g, stream));
    stream.wait();
    ncclResult_t error = ncclSuccess;
    ok(ncclCommGetAsyncError(g.comm, &error));
    CHECK(error == ncclSuccess);
    ok(all_reduce(x, 100, g, stream));
    while (error == ncclSuccess) {
      CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
      ok(ncclCommGetAsyncError(g.comm, &error));
      std::this_thread::yield();
    }
    CHECK(error == ncclRemoteError);
    g.abort();
    stream.wait();
  });
}

TEST_CASE("an injected error of an NCCL call", "[ranks=1]") {
  const Group g;
  const OwnStream stream;
  const Values<float> x(100);
  simt::inject("ncclAllReduce", 2, ncclSystemError);
  CHECK(all_reduce(x, 100, g, stream) == ncclSuccess);
  CHECK(all_reduce(x, 100, g, stream) == ncclSystemError);
  CHECK(all_reduce(x, 100, g, stream) == ncclSuccess);
}
