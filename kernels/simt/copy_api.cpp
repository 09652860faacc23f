// Copies and memsets.
//
// Pageable memory follows the driver: a copy from it has read it when the call returns (it was staged), a copy into it
// is complete when the call returns, unless the settings say "late". Pinned memory is used when the copy's turn comes.
#include <cstring>

#include "kernels/simt/allocations.h"
#include "kernels/simt/api.h"

namespace simt {
namespace {

enum class Kind { device, pinned, pageable };

struct Side {
  Kind kind;
  const void* user;  // as the caller named it
  void* real;        // as the device thread may touch it
};

Side resolve(Gpu& gpu, const void* address) {
  if (dev_contains(address)) return {Kind::device, address, const_cast<void*>(address)};
  if (gpu.pinned().contains(address)) return {Kind::pinned, address, gpu.pinned().device_view(address)};
  return {Kind::pageable, address, const_cast<void*>(address)};
}

bool direction_fits(cudaMemcpyKind kind, const Side& to, const Side& from) {
  const bool to_device = to.kind == Kind::device, from_device = from.kind == Kind::device;
  switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    default: return kind == cudaMemcpyDefault;
  }
}

/// Reports a range that leaves its memory; true when it does.
bool outside(Gpu& gpu, const char* call, const Side& side, size_t bytes, const char* which) {
  if (side.kind == Kind::pageable) return false;
  const size_t extent = side.kind == Kind::device ? device_extent(side.user) : gpu.pinned().extent(side.user);
  if (bytes <= extent) return false;
  report(extent == 0 && side.kind == Kind::device ? ReportKind::freed_memory : ReportKind::out_of_bounds,
         extent == 0 ? trident::build_string(call, ": the ", which, " ", side.user, " lies in no live allocation")
                     : trident::build_string(call, ": ", bytes, " bytes at the ", which, " ", side.user, ", but only ",
                                             extent, " to the end of the allocation"));
  return true;
}

/// `late`: pageable memory is used in its turn, too.
cudaError_t copy(Gpu& gpu, Lock& lock, const char* call, const StreamPtr& stream, void* to_user, const void* from_user,
                 size_t bytes, cudaMemcpyKind kind, bool late = false) {
  if (bytes == 0) return cudaSuccess;
  const Side to = resolve(gpu, to_user), from = resolve(gpu, from_user);
  if (!direction_fits(kind, to, from)) {
    return misuse(ReportKind::wrong_direction,
                  trident::build_string(call, "(", to_user, ", ", from_user, ", ", bytes,
                                        "): the direction does not match the pointers"),
                  cudaErrorInvalidValue);
  }
  if (outside(gpu, call, to, bytes, "destination") || outside(gpu, call, from, bytes, "source")) {
    return cudaErrorInvalidValue;
  }
  Work work{call, {}, nullptr};
  if (from.kind != Kind::pageable) work.ranges.push_back({from.user, bytes, false});
  if (to.kind != Kind::pageable) work.ranges.push_back({to.user, bytes, true});
  std::shared_ptr<std::vector<char>> staged;
  if (from.kind == Kind::pageable && !late) {
    const char* source = static_cast<const char*>(from.real);
    staged = std::make_shared<std::vector<char>>(source, source + bytes);
  }
  work.poll = [=] {
    if (from.kind == Kind::device) dev_op_access(from.real, bytes, false, "source");
    if (to.kind == Kind::device) dev_op_access(to.real, bytes, true, "destination");
    std::memmove(to.real, staged ? staged->data() : from.real, bytes);
    return true;
  };
  const cudaError_t error = gpu.submit(lock, stream, std::move(work));
  if (error != cudaSuccess || to.kind != Kind::pageable || late) return error;
  return gpu.wait_on_host(lock, gpu.mark(stream));
}

cudaError_t fill(Gpu& gpu, Lock& lock, const char* call, const StreamPtr& stream, void* address, int value,
                 size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  const Side to = resolve(gpu, address);
  if (to.kind != Kind::device) {
    return misuse(ReportKind::wrong_direction, trident::build_string(call, ": ", address, " is not device memory"),
                  cudaErrorInvalidValue);
  }
  if (outside(gpu, call, to, bytes, "destination")) return cudaErrorInvalidValue;
  return gpu.submit(lock, stream, {call, {{address, bytes, true}}, [=] {
                                     dev_op_access(address, bytes, true, "destination");
                                     std::memset(address, value, bytes);
                                     return true;
                                   }});
}

/// Runs a call without a stream: an operation after all that the host knows, complete when the call returns.
template <class Body>
cudaError_t at_once(Gpu& gpu, Lock& lock, Body body) {
  const StreamPtr stream = gpu.make_stream(cudaStreamNonBlocking, 0);
  cudaError_t error = body(stream);
  if (error == cudaSuccess) error = gpu.wait_on_host(lock, gpu.mark(stream));
  gpu.drop_stream(stream);
  return error;
}

}  // namespace
}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return stream_api("cudaMemcpyAsync", stream, [&](Gpu& gpu, Lock& lock, const StreamPtr& s) {
    return copy(gpu, lock, "cudaMemcpyAsync", s, to, from, bytes, kind, settings().late_pageable);
  });
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return api("cudaMemcpy", [&](Gpu& gpu, Lock& lock) {
    return at_once(gpu, lock,
                   [&](const StreamPtr& s) { return copy(gpu, lock, "cudaMemcpy", s, to, from, bytes, kind); });
  });
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream) {
  return stream_api("cudaMemsetAsync", stream, [&](Gpu& gpu, Lock& lock, const StreamPtr& s) {
    return fill(gpu, lock, "cudaMemsetAsync", s, address, value, bytes);
  });
}

cudaError_t cudaMemset(void* address, int value, size_t bytes) {
  return api("cudaMemset", [&](Gpu& gpu, Lock& lock) {
    return at_once(gpu, lock,
                   [&](const StreamPtr& s) { return fill(gpu, lock, "cudaMemset", s, address, value, bytes); });
  });
}

}  // extern "C"
