// Device and pinned memory.
#include <exception>

#include "kernels/simt/allocations.h"
#include "kernels/simt/api.h"

namespace simt {
namespace {

std::map<uintptr_t, size_t> g_allocations;  // live ones, by address; under the device's mutex
size_t g_allocated = 0;

uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

/// Reports the freeing of memory that an operation which the host has not waited for may still use. Not while an
/// exception unwinds: what failed matters more than how it is cleaned up.
void check_not_in_flight(Gpu& gpu, const char* call, const void* address, size_t bytes) {
  const Op op = gpu.in_flight_on(number(address), number(address) + bytes);
  if (!op || std::uncaught_exceptions() > 0) return;
  report(ReportKind::freed_memory, trident::build_string(call, "(", address, "): ", describe(*op),
                                                         " may still use the memory: the host has not waited for it"));
}

cudaError_t allocate_pinned(const char* name, void** address, size_t bytes) {
  return api(name, [&](Gpu& gpu, Lock&) -> cudaError_t {
    if (address == nullptr) return cudaErrorInvalidValue;
    *address = bytes == 0 ? nullptr : gpu.pinned().allocate(bytes);
    return *address != nullptr || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}

}  // namespace

size_t device_extent(const void* address) {
  auto at = g_allocations.upper_bound(number(address));
  if (at == g_allocations.begin()) return 0;
  --at;
  const uintptr_t end = at->first + at->second;
  return number(address) < end ? end - number(address) : 0;
}

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaMalloc(void** address, size_t bytes) {
  return api("cudaMalloc", [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    if (address == nullptr) return cudaErrorInvalidValue;
    *address = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes > settings().memory_bytes - std::min<uint64_t>(g_allocated, settings().memory_bytes)) {
      return cudaErrorMemoryAllocation;
    }
    void* got = nullptr;
    gpu.run_on_device(lock, [&] { got = dev_alloc(bytes); });
    if (got == nullptr) return cudaErrorMemoryAllocation;
    g_allocations[number(got)] = bytes;
    g_allocated += bytes;
    *address = got;
    return cudaSuccess;
  });
}

cudaError_t cudaFree(void* address) {
  return api("cudaFree", [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    if (address == nullptr) return cudaSuccess;
    const auto at = g_allocations.find(number(address));
    if (at == g_allocations.end()) {
      const char* why =
          dev_contains(address) ? "freed already, or not the beginning of an allocation" : "not a device address";
      return misuse(ReportKind::freed_memory, trident::build_string("cudaFree(", address, "): ", why),
                    cudaErrorInvalidValue);
    }
    const size_t bytes = at->second;
    check_not_in_flight(gpu, "cudaFree", address, bytes);
    const cudaError_t error = gpu.wait_for_all(lock);
    gpu.run_on_device(lock, [&] { dev_free(address); });
    gpu.regions().forget(number(address), number(address) + bytes);
    g_allocations.erase(number(address));
    g_allocated -= bytes;
    return error;
  });
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  return api("cudaMemGetInfo", [&](Gpu&, Lock&) {
    *total_bytes = settings().memory_bytes;
    *free_bytes = *total_bytes - std::min<size_t>(g_allocated, *total_bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMallocHost(void** address, size_t bytes) { return allocate_pinned("cudaMallocHost", address, bytes); }

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  return allocate_pinned("cudaHostAlloc", address, bytes);
}

cudaError_t cudaFreeHost(void* address) {
  return api("cudaFreeHost", [&](Gpu& gpu, Lock& lock) -> cudaError_t {
    if (address == nullptr) return cudaSuccess;
    const size_t bytes = gpu.pinned().extent(address);
    check_not_in_flight(gpu, "cudaFreeHost", address, bytes);
    const cudaError_t error = gpu.wait_for_all(lock);
    if (!gpu.pinned().free(address)) {
      return misuse(ReportKind::freed_memory,
                    trident::build_string("cudaFreeHost(", address, "): freed already, or not from cudaMallocHost"),
                    cudaErrorInvalidValue);
    }
    gpu.regions().forget(number(address), number(address) + bytes);
    return error;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  return api("cudaPointerGetAttributes", [&](Gpu& gpu, Lock&) {
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2;  // as the documentation has it for memory unknown to CUDA
    if (device_extent(address) > 0) {
      attributes->type = cudaMemoryTypeDevice;
      attributes->device = current_device();
      attributes->devicePointer = const_cast<void*>(address);
    } else if (gpu.pinned().contains(address)) {
      attributes->type = cudaMemoryTypeHost;
      attributes->device = current_device();
      attributes->devicePointer = attributes->hostPointer = const_cast<void*>(address);
    }
    return cudaSuccess;
  });
}

}  // extern "C"
