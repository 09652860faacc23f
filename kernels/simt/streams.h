// What an emulated library (cuBLASLt, NCCL, ...) needs of the emulated runtime: work on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/simt/control.h"

namespace simt {

/// A range of device or pinned memory that an operation touches.
struct Range {
  const void* address;
  size_t bytes;
  bool write;
};

/// One operation of a stream. `poll` runs on the device thread, again and again until it returns true; the later
/// operations of the stream wait, those of other streams go on. What it throws (simt::Error) becomes a report.
/// A poll must not block and must not call the CUDA API.
struct Work {
  const char* name;           ///< lives as long as the process
  std::vector<Range> ranges;  ///< as far as known: checked for bounds and races at once. Of a kernel: its pointers
  std::function<bool()> poll;
  bool kernel = false;
};

/// A point in a stream, as an event holds it.
struct Mark;
using MarkPtr = std::shared_ptr<Mark>;

/// Queues the work. The last error's code when the context is dead or the stream is none.
cudaError_t submit(cudaStream_t stream, Work work);
/// As above, for work done in one go whose ranges are checked by dev_op_access when it runs.
cudaError_t stream_push(cudaStream_t stream, const char* name, std::function<void()> run);

/// The point after everything submitted to the stream so far; null when the stream is none.
MarkPtr mark_stream(cudaStream_t stream);
/// Later work of the stream runs after the mark. Orders the running only: users are promised nothing by it, so no
/// happens-before comes of it.
void follow(cudaStream_t stream, const MarkPtr& mark);
/// Blocks the calling thread until the mark is reached, as a host wait.
cudaError_t wait_for(const MarkPtr& mark);

/// Thrown by a poll: from now on every call answers with `code`, as after a fault of the hardware. No report.
struct ContextError {
  cudaError_t code;
};

}  // namespace simt
