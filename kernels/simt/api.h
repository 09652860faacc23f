// What every entry point of the emulated CUDA runtime does around its own work.
#pragma once

#include "core/base/error.h"
#include "kernels/simt/device_thread.h"
#include "kernels/simt/runtime.h"

namespace simt {

/// Notes the calling thread's last error; returns it.
cudaError_t remember(cudaError_t error);

/// Files a report and answers with `error`.
inline cudaError_t misuse(ReportKind kind, const std::string& text, cudaError_t error) {
  report(kind, text);
  return error;
}

/// Runs body(Gpu&, Lock&) with the device's mutex held, unless a fault is injected here, there is no device or the
/// context is dead.
template <class Body>
cudaError_t api(const char* name, Body body) {
  if (settings().devices == 0) return remember(cudaErrorNoDevice);
  Gpu& gpu = Gpu::get();
  if (gpu.on_device_thread()) {
    return misuse(ReportKind::host_function,
                  trident::build_string(name, " is called from a host function of a stream: CUDA forbids it"),
                  cudaErrorNotPermitted);
  }
  Lock lock(gpu.mutex());
  auto error = static_cast<cudaError_t>(injected_error(name));
  if (error == cudaSuccess) error = gpu.context_error();
  try {
    if (error == cudaSuccess) error = body(gpu, lock);
  } catch (const Error& e) {
    error = misuse(ReportKind::operation, trident::build_string(name, ": ", e.msg), cudaErrorInvalidValue);
  }
  return remember(error);
}

/// As `api`, for a call about a stream: body(Gpu&, Lock&, StreamPtr).
template <class Body>
cudaError_t stream_api(const char* name, cudaStream_t stream, Body body) {
  return api(name, [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    const StreamPtr s = find_stream(stream, name);
    return s ? body(gpu, lock, s) : cudaErrorInvalidResourceHandle;
  });
}

}  // namespace simt
