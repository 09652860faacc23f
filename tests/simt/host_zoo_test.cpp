// The zoo of host bugs: each seeded mistake must be reported under every stream policy, and its clean twin must not.
#include <functional>
#include <thread>

#include "simt/runtime.h"

namespace simt {
extern bool checked;  // the build watches every access of kernels
}

using namespace trident;
using namespace trident::testing;
using simt::CollectReports;
using simt::Report;
using simt::ReportKind;

namespace {

/// The pipeline every bug is cut out of: upload, compute on another stream, download, read.
struct Steps {
  bool wait_before_kernel = true;
  bool wait_before_download = true;
  bool wait_before_read = true;
  bool wait_before_reuse = true;
};

float run_pipeline(Bench& b, const Steps& steps) {
  ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
  ok(cudaEventRecord(b.uploaded, b.copy));
  if (steps.wait_before_reuse) ok(cudaEventSynchronize(b.uploaded));
  b.in[5] = 77;
  if (steps.wait_before_kernel) ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
  ok(add_one(b.y, b.x, Bench::kCount, b.compute));
  ok(cudaEventRecord(b.computed, b.compute));
  if (steps.wait_before_download) ok(cudaStreamWaitEvent(b.copy, b.computed, 0));
  ok(cudaMemcpyAsync(b.out, b.y, Bench::kBytes, cudaMemcpyDeviceToHost, b.copy));
  if (steps.wait_before_read) ok(cudaStreamSynchronize(b.copy));
  const float read = b.out[3];
  (void)cudaDeviceSynchronize();
  return read;
}

/// Demands that `bug` is reported as `kind` under every policy, by at least one report of that kind.
void must_report(ReportKind kind, const std::function<void(Bench&)>& bug) {
  under_every_policy([&] {
    CollectReports collect;
    {
      Bench bench;
      try {
        bug(bench);
      } catch (const RunError&) {
        // The bug came out at once, as an error of the next call.
      }
      (void)cudaDeviceSynchronize();
      const std::vector<Report> reports = collect.take();
      INFO("reports:\n" << listed(reports));
      CHECK(std::any_of(reports.begin(), reports.end(), [&](const Report& r) { return r.kind == kind; }));
      simt::reset_context_error();
    }
    (void)collect.take();
    (void)cudaGetLastError();
  });
}

void must_be_silent(const std::function<void(Bench&)>& twin) {
  under_every_policy([&] {
    CollectReports collect;
    {
      Bench bench;
      twin(bench);
    }
    const std::vector<Report> reports = collect.take();
    INFO("reports:\n" << listed(reports));
    CHECK(reports.empty());
  });
}

}  // namespace

TEST_CASE("zoo: the whole pipeline in order is silent and right", "[zoo]") {
  must_be_silent([](Bench& b) { CHECK(run_pipeline(b, {}) == 4); });
}

TEST_CASE("zoo: a kernel that does not wait for the upload", "[zoo]") {
  must_report(ReportKind::race, [](Bench& b) {
    ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    ok(add_one(b.y, b.x, Bench::kCount, b.compute));
  });
}

TEST_CASE("zoo: a download that does not wait for the kernel", "[zoo]") {
  if (!simt::checked) return;  // which pointer a kernel writes through is known in the checked build only
  must_report(ReportKind::race, [](Bench& b) { (void)run_pipeline(b, {.wait_before_download = false}); });
}

TEST_CASE("zoo: a kernel that overwrites what is still being downloaded", "[zoo]") {
  if (!simt::checked) return;
  must_report(ReportKind::race, [](Bench& b) {
    ok(cudaMemcpyAsync(b.out, b.y, Bench::kBytes, cudaMemcpyDeviceToHost, b.copy));
    ok(add_one(b.y, b.x, Bench::kCount, b.compute));
  });
}

TEST_CASE("zoo: an upload into what a kernel may still read", "[zoo]") {
  const auto upload = [](Bench& b, bool wait) {
    ok(add_one(b.y, b.x, Bench::kCount, b.compute));
    ok(cudaEventRecord(b.computed, b.compute));
    if (wait) ok(cudaStreamWaitEvent(b.copy, b.computed, 0));
    ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
  };
  must_report(ReportKind::race, [&](Bench& b) { upload(b, false); });
  must_be_silent([&](Bench& b) { upload(b, true); });
}

TEST_CASE("zoo: a copy that does not wait for another", "[zoo]") {
  const auto copies = [](Bench& b, bool wait) {
    ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    ok(cudaEventRecord(b.uploaded, b.copy));
    if (wait) ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
    ok(cudaMemcpyAsync(b.y, b.x, Bench::kBytes, cudaMemcpyDeviceToDevice, b.compute));
  };
  must_report(ReportKind::race, [&](Bench& b) { copies(b, false); });
  must_be_silent([&](Bench& b) { copies(b, true); });
}

TEST_CASE("zoo: a memset into what another stream still reads", "[zoo]") {
  const auto reuse = [](Bench& b, bool wait) {
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.compute));
    ok(cudaMemcpyAsync(b.out, b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.compute));
    ok(cudaEventRecord(b.computed, b.compute));
    if (wait) ok(cudaStreamWaitEvent(b.copy, b.computed, 0));
    ok(cudaMemsetAsync(b.x, 1, Bench::kBytes, b.copy));
  };
  must_report(ReportKind::race, [&](Bench& b) { reuse(b, false); });
  must_be_silent([&](Bench& b) { reuse(b, true); });
}

TEST_CASE("zoo: an event recorded too early", "[zoo]") {
  const auto record = [](Bench& b, bool early) {
    if (early) ok(cudaEventRecord(b.uploaded, b.copy));
    ok(cudaMemcpyAsync(b.x, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    if (!early) ok(cudaEventRecord(b.uploaded, b.copy));
    ok(cudaStreamWaitEvent(b.compute, b.uploaded, 0));
    ok(cudaMemcpyAsync(b.out, b.x, Bench::kBytes, cudaMemcpyDeviceToHost, b.compute));
  };
  must_report(ReportKind::race, [&](Bench& b) { record(b, true); });
  must_be_silent([&](Bench& b) { record(b, false); });
}

TEST_CASE("zoo: the host reads before the download is over", "[zoo]") {
  must_report(ReportKind::host_access, [](Bench& b) { (void)run_pipeline(b, {.wait_before_read = false}); });
}

TEST_CASE("zoo: the host refills a pinned buffer that is still being uploaded", "[zoo]") {
  must_report(ReportKind::host_access, [](Bench& b) { (void)run_pipeline(b, {.wait_before_reuse = false}); });
}

TEST_CASE("zoo: another thread asked whether the copy is over, this one did not", "[zoo]") {
  const auto asked = [](Bench& b, bool by_this_thread) {
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.copy));
    ok(cudaEventRecord(b.uploaded, b.copy));
    const auto ask = [&b] {
      while (cudaEventQuery(b.uploaded) == cudaErrorNotReady) std::this_thread::yield();
    };
    if (by_this_thread) {
      ask();
    } else {
      std::thread(ask).join();
    }
    ok(cudaMemsetAsync(b.x, 1, Bench::kBytes, b.compute));
  };
  must_report(ReportKind::race, [&](Bench& b) { asked(b, false); });
  must_be_silent([&](Bench& b) { asked(b, true); });
}

TEST_CASE("zoo: a pinned buffer filled by two copies at once", "[zoo]") {
  const auto two = [](Bench& b, bool same) {
    ok(cudaMemcpyAsync(b.out, b.x, 400, cudaMemcpyDeviceToHost, b.copy));
    ok(cudaMemcpyAsync(b.out + (same ? 99 : 100), b.x, 400, cudaMemcpyDeviceToHost, b.compute));
  };
  must_report(ReportKind::race, [&](Bench& b) { two(b, true); });
  must_be_silent([&](Bench& b) { two(b, false); });
}

TEST_CASE("zoo: wrong direction", "[zoo]") {
  must_report(ReportKind::wrong_direction, [](Bench& b) {
    CHECK(cudaMemcpyAsync(b.in, b.x, 40, cudaMemcpyHostToDevice, b.copy) == cudaErrorInvalidValue);
  });
  must_report(ReportKind::wrong_direction, [](Bench& b) {
    CHECK(cudaMemcpyAsync(b.in, b.x, 40, cudaMemcpyDeviceToDevice, b.copy) == cudaErrorInvalidValue);
  });
}

TEST_CASE("zoo: a copy beyond its allocation", "[zoo]") {
  must_report(ReportKind::out_of_bounds, [](Bench& b) {
    const std::vector<float> pageable(Bench::kCount + 1);
    (void)cudaMemcpyAsync(b.x, pageable.data(), Bench::kBytes + 4, cudaMemcpyHostToDevice, b.copy);
  });
  must_report(ReportKind::out_of_bounds, [](Bench& b) { (void)cudaMemsetAsync(b.x + 1, 0, Bench::kBytes, b.copy); });
  must_report(ReportKind::out_of_bounds,
              [](Bench& b) { (void)cudaMemcpyAsync(b.x, b.in + 1, Bench::kBytes, cudaMemcpyHostToDevice, b.copy); });
}

TEST_CASE("zoo: an event that was never recorded", "[zoo]") {
  must_report(ReportKind::never_recorded, [](Bench& b) { (void)cudaStreamWaitEvent(b.compute, b.uploaded, 0); });
  must_report(ReportKind::never_recorded, [](Bench& b) { (void)cudaEventSynchronize(b.uploaded); });
  must_report(ReportKind::never_recorded, [](Bench& b) { (void)cudaEventQuery(b.uploaded); });
}

TEST_CASE("zoo: the default stream", "[zoo]") {
  must_report(ReportKind::default_stream, [](Bench& b) { (void)cudaMemsetAsync(b.x, 0, 40, nullptr); });
  must_report(ReportKind::default_stream, [](Bench& b) { (void)add_one(b.y, b.x, 10, nullptr); });
  must_report(ReportKind::default_stream, [](Bench& b) { (void)cudaEventRecord(b.computed, cudaStreamLegacy); });
}

TEST_CASE("zoo: a destroyed stream", "[zoo]") {
  must_report(ReportKind::invalid_handle, [](Bench& b) {
    cudaStream_t gone = nullptr;
    ok(cudaStreamCreateWithFlags(&gone, cudaStreamNonBlocking));
    ok(cudaStreamDestroy(gone));
    CHECK(cudaMemsetAsync(b.x, 0, 40, gone) == cudaErrorInvalidResourceHandle);
  });
}

TEST_CASE("zoo: memory freed while a copy may use it", "[zoo]") {
  const auto freed = [](Bench& b, bool wait) {
    void* extra = nullptr;
    ok(cudaMalloc(&extra, Bench::kBytes));
    ok(cudaMemcpyAsync(extra, b.in, Bench::kBytes, cudaMemcpyHostToDevice, b.copy));
    if (wait) ok(cudaStreamSynchronize(b.copy));
    ok(cudaFree(extra));
  };
  must_report(ReportKind::freed_memory, [&](Bench& b) { freed(b, false); });
  must_be_silent([&](Bench& b) { freed(b, true); });
}

TEST_CASE("zoo: memory freed while a kernel may use it", "[zoo]") {
  const auto freed = [](Bench& b, bool wait) {
    float* extra = nullptr;
    ok(cudaMalloc(reinterpret_cast<void**>(&extra), Bench::kBytes));
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.compute));
    ok(add_one(extra, b.x, Bench::kCount, b.compute));
    if (wait) ok(cudaStreamSynchronize(b.compute));
    ok(cudaFree(extra));
  };
  must_report(ReportKind::freed_memory, [&](Bench& b) { freed(b, false); });
  must_be_silent([&](Bench& b) { freed(b, true); });
}

TEST_CASE("zoo: freed memory used, freed twice", "[zoo]") {
  must_report(ReportKind::freed_memory, [](Bench& b) {
    void* gone = nullptr;
    ok(cudaMalloc(&gone, 400));
    ok(cudaFree(gone));
    CHECK(cudaMemsetAsync(gone, 0, 400, b.copy) == cudaErrorInvalidValue);
  });
  must_report(ReportKind::freed_memory, [](Bench&) {
    void* gone = nullptr;
    ok(cudaMalloc(&gone, 400));
    ok(cudaFree(gone));
    CHECK(cudaFree(gone) == cudaErrorInvalidValue);
  });
  must_report(ReportKind::freed_memory, [](Bench&) {
    void* gone = nullptr;
    ok(cudaMallocHost(&gone, 400));
    ok(cudaFreeHost(gone));
    CHECK(cudaFreeHost(gone) == cudaErrorInvalidValue);
  });
}

TEST_CASE("zoo: the host dereferences device memory", "[zoo]") {
  must_report(ReportKind::host_access, [](Bench& b) {
    ok(cudaDeviceSynchronize());
    volatile const float* x = b.x;
    CHECK(x[0] == 0);
  });
}

TEST_CASE("zoo: a kernel out of bounds kills the context", "[zoo]") {
  must_report(ReportKind::kernel_fault, [](Bench& b) {
    ok(cudaMemsetAsync(b.x, 0, Bench::kBytes, b.compute));
    (void)add_one_overrun(b.y, b.x, Bench::kCount, b.compute);
    CHECK(cudaStreamSynchronize(b.compute) == cudaErrorIllegalAddress);
    CHECK(cudaMemsetAsync(b.x, 0, 40, b.copy) == cudaErrorIllegalAddress);
    void* more = nullptr;
    CHECK(cudaMalloc(&more, 40) == cudaErrorIllegalAddress);
  });
}

TEST_CASE("zoo: a CUDA call inside a host function", "[zoo]") {
  must_report(ReportKind::host_function, [](Bench& b) {
    ok(cudaLaunchHostFunc(
        b.copy, [](void*) { (void)cudaDeviceSynchronize(); }, nullptr));
    ok(cudaStreamSynchronize(b.copy));
  });
}
