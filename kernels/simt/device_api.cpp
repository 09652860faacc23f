// Which devices there are and what they look like: an A100 or an H100, by TRIDENT_SIMT_ARCH.
#include <cstdio>
#include <cstring>
#include <optional>

#include "kernels/simt/allocations.h"
#include "kernels/simt/api.h"

namespace simt {
namespace {

thread_local int t_device = 0;

bool is_h100() { return settings().arch == 90; }

/// The calls that need no context: only a missing device and injected faults stop them.
template <class Body>
cudaError_t plain_api(const char* name, Body body) {
  auto error = static_cast<cudaError_t>(injected_error(name));
  if (error == cudaSuccess && settings().devices == 0) error = cudaErrorNoDevice;
  return remember(error == cudaSuccess ? body() : error);
}

bool exists(int device) { return device >= 0 && device < settings().devices; }

std::optional<int> attribute_of(cudaDeviceAttr attribute, int device) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: return settings().arch / 10;
    case cudaDevAttrComputeCapabilityMinor: return settings().arch % 10;
    case cudaDevAttrMultiProcessorCount: return is_h100() ? 132 : 108;
    case cudaDevAttrMaxThreadsPerBlock: return 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return 2048;
    case cudaDevAttrMaxBlocksPerMultiprocessor: return 32;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY: return 1024;
    case cudaDevAttrMaxBlockDimZ: return 64;
    case cudaDevAttrMaxGridDimX: return 2147483647;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: return 65535;
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor: return 65536;
    case cudaDevAttrMaxSharedMemoryPerBlock: return 48 * 1024;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return static_cast<int>(shared_limit(opt.architecture));
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return (is_h100() ? 228 : 164) * 1024;
    case cudaDevAttrL2CacheSize: return (is_h100() ? 50 : 40) << 20;
    case cudaDevAttrGlobalMemoryBusWidth: return 5120;
    case cudaDevAttrEccEnabled:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrStreamPrioritiesSupported: return 1;
    case cudaDevAttrAsyncEngineCount: return 3;
    case cudaDevAttrIntegrated: return 0;
    case cudaDevAttrPciBusId: return device + 1;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId: return 0;
    default: return std::nullopt;
  }
}

int known_attribute(cudaDeviceAttr attribute, int device) { return *attribute_of(attribute, device); }

}  // namespace

int current_device() { return t_device; }

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  if (count != nullptr) *count = settings().devices;
  return plain_api("cudaGetDeviceCount", [] { return cudaSuccess; });
}

cudaError_t cudaSetDevice(int device) {
  return plain_api("cudaSetDevice", [&] {
    if (!exists(device)) return cudaErrorInvalidDevice;
    t_device = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return plain_api("cudaGetDevice", [&] {
    *device = t_device;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return plain_api("cudaDeviceGetAttribute", [&] {
    if (!exists(device)) return cudaErrorInvalidDevice;
    const std::optional<int> known = attribute_of(attribute, device);
    if (!known) return cudaErrorInvalidValue;  // the emulation knows no such attribute: add it above
    *value = *known;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  return plain_api("cudaGetDeviceProperties", [&] {
    if (!exists(device)) return cudaErrorInvalidDevice;
    const auto known = [&](cudaDeviceAttr attribute) { return known_attribute(attribute, device); };
    std::memset(p, 0, sizeof *p);
    std::snprintf(p->name, sizeof p->name, "Emulated %s", is_h100() ? "H100" : "A100");
    p->totalGlobalMem = settings().memory_bytes;
    p->sharedMemPerBlock = static_cast<size_t>(known(cudaDevAttrMaxSharedMemoryPerBlock));
    p->sharedMemPerBlockOptin = static_cast<size_t>(known(cudaDevAttrMaxSharedMemoryPerBlockOptin));
    p->sharedMemPerMultiprocessor = static_cast<size_t>(known(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
    p->regsPerBlock = known(cudaDevAttrMaxRegistersPerBlock);
    p->regsPerMultiprocessor = known(cudaDevAttrMaxRegistersPerMultiprocessor);
    p->warpSize = known(cudaDevAttrWarpSize);
    p->maxThreadsPerBlock = known(cudaDevAttrMaxThreadsPerBlock);
    p->maxThreadsPerMultiProcessor = known(cudaDevAttrMaxThreadsPerMultiProcessor);
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = known(cudaDevAttrMaxBlockDimX);
    p->maxThreadsDim[2] = known(cudaDevAttrMaxBlockDimZ);
    p->maxGridSize[0] = known(cudaDevAttrMaxGridDimX);
    p->maxGridSize[1] = p->maxGridSize[2] = known(cudaDevAttrMaxGridDimY);
    p->major = known(cudaDevAttrComputeCapabilityMajor);
    p->minor = known(cudaDevAttrComputeCapabilityMinor);
    p->multiProcessorCount = known(cudaDevAttrMultiProcessorCount);
    p->l2CacheSize = known(cudaDevAttrL2CacheSize);
    p->memoryBusWidth = known(cudaDevAttrGlobalMemoryBusWidth);
    p->asyncEngineCount = known(cudaDevAttrAsyncEngineCount);
    p->concurrentKernels = p->unifiedAddressing = p->ECCEnabled = p->streamPrioritiesSupported = 1;
    p->pciBusID = known(cudaDevAttrPciBusId);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  return plain_api("cudaDeviceGetPCIBusId", [&] {
    if (!exists(device)) return cudaErrorInvalidDevice;
    if (text == nullptr || length < 13) return cudaErrorInvalidValue;
    std::snprintf(text, static_cast<size_t>(length), "0000:%02X:00.0", device + 1);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return plain_api("cudaDeviceCanAccessPeer", [&] {
    if (!exists(device) || !exists(peer)) return cudaErrorInvalidDevice;
    *can = device != peer;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings().devices == 0 ? 0 : CUDART_VERSION;  // 0: no driver is installed
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

}  // extern "C"
