// Streams and events.
#include <map>

#include "kernels/simt/api.h"

struct CUstream_st {
  simt::StreamPtr stream;
};

struct CUevent_st {
  simt::MarkPtr mark;  // the last record; null before the first
  bool timing = true;
};

namespace simt {
namespace {

struct Handles {
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
};
Handles& handles() {  // under the device's mutex
  static Handles* const h = new Handles;
  return *h;
}

cudaError_t make_stream(const char* name, cudaStream_t* out, unsigned flags, int priority) {
  return api(name, [&](Gpu& gpu, Lock&) -> cudaError_t {
    if (out == nullptr || (flags & ~unsigned{cudaStreamNonBlocking}) != 0) return cudaErrorInvalidValue;
    *out = new CUstream_st{gpu.make_stream(flags, priority)};
    handles().streams.insert(*out);
    return cudaSuccess;
  });
}

/// As `api`, for a call about an event.
template <class Body>
cudaError_t event_api(const char* name, cudaEvent_t event, Body body) {
  return api(name, [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    if (handles().events.count(event) == 0) {
      return misuse(ReportKind::invalid_handle,
                    trident::build_string(name, ": the event was destroyed or never created"),
                    cudaErrorInvalidResourceHandle);
    }
    return body(gpu, lock);
  });
}

bool recorded(const char* name, cudaEvent_t event) {
  if (event->mark) return true;
  report(ReportKind::never_recorded,
         trident::build_string(name, ": the event was never recorded; a GPU takes that for reached, without a word"));
  return false;
}

cudaError_t query(Gpu& gpu, const MarkPtr& mark) {
  gpu.advance();
  if (gpu.context_error() != cudaSuccess) return gpu.context_error();
  if (!mark->reached()) return cudaErrorNotReady;
  gpu.thread_learns(mark->clock);
  return cudaSuccess;
}

}  // namespace

StreamPtr find_stream(cudaStream_t stream, const char* call) {
  if (stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread) {
    report(ReportKind::default_stream,
           trident::build_string(call,
                                 " uses the default stream, which waits for others unasked and hides wrong "
                                 "order: pass one made by cudaStreamCreateWithFlags"));
    return nullptr;
  }
  if (handles().streams.count(stream) == 0) {
    report(ReportKind::invalid_handle, trident::build_string(call, ": the stream was destroyed or never created"));
    return nullptr;
  }
  return stream->stream;
}

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return make_stream("cudaStreamCreate", stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return make_stream("cudaStreamCreateWithFlags", stream, flags, 0);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return make_stream("cudaStreamCreateWithPriority", stream, flags, priority);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  return stream_api("cudaStreamGetPriority", stream, [&](Gpu&, Lock&, const StreamPtr& s) {
    *priority = s->priority;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return stream_api("cudaStreamDestroy", stream, [&](Gpu& gpu, Lock&, const StreamPtr& s) {
    gpu.drop_stream(s);
    handles().streams.erase(stream);
    delete stream;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream_api("cudaStreamSynchronize", stream,
                    [&](Gpu& gpu, Lock& lock, const StreamPtr& s) { return gpu.wait_on_host(lock, gpu.mark(s)); });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream_api("cudaStreamQuery", stream,
                    [&](Gpu& gpu, Lock&, const StreamPtr& s) { return query(gpu, gpu.mark(s)); });
}

cudaError_t cudaDeviceSynchronize() {
  return api("cudaDeviceSynchronize", [](Gpu& gpu, Lock& lock) { return gpu.wait_for_all(lock); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return event_api("cudaStreamWaitEvent", event, [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    const StreamPtr s = find_stream(stream, "cudaStreamWaitEvent");
    if (!s) return cudaErrorInvalidResourceHandle;
    if (recorded("cudaStreamWaitEvent", event)) gpu.wait_on_device(lock, s, event->mark, true);
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return stream_api("cudaLaunchHostFunc", stream, [&](Gpu& gpu, Lock& lock, const StreamPtr& s) {
    return gpu.submit(lock, s, {"cudaLaunchHostFunc", {}, [function, data] {
                                  function(data);
                                  return true;
                                }});
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return api("cudaEventCreateWithFlags", [&](Gpu&, Lock&) -> cudaError_t {
    constexpr unsigned kKnown = cudaEventBlockingSync | cudaEventDisableTiming;
    if (event == nullptr || (flags & ~kKnown) != 0) return cudaErrorInvalidValue;
    *event = new CUevent_st{nullptr, (flags & cudaEventDisableTiming) == 0};
    handles().events.insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return event_api("cudaEventDestroy", event, [&](Gpu&, Lock&) {
    handles().events.erase(event);
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return event_api("cudaEventRecord", event, [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    const StreamPtr s = find_stream(stream, "cudaEventRecord");
    if (!s) return cudaErrorInvalidResourceHandle;
    event->mark = gpu.record(lock, s);
    return gpu.context_error();
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event_api("cudaEventSynchronize", event, [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    return recorded("cudaEventSynchronize", event) ? gpu.wait_on_host(lock, MarkPtr(event->mark)) : cudaSuccess;
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event_api("cudaEventQuery", event, [&](Gpu& gpu, Lock&) -> cudaError_t {
    return recorded("cudaEventQuery", event) ? query(gpu, event->mark) : cudaSuccess;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  return event_api("cudaEventElapsedTime", begin, [&](Gpu& gpu, Lock&) -> cudaError_t {
    if (handles().events.count(end) == 0 || !begin->timing || !end->timing || !begin->mark || !end->mark) {
      return cudaErrorInvalidResourceHandle;
    }
    gpu.advance();
    if (!begin->mark->reached() || !end->mark->reached()) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(end->mark->reached_at - begin->mark->reached_at).count();
    return cudaSuccess;
  });
}

}  // extern "C"
