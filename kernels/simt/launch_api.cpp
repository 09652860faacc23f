// Kernel launches.
#include <cstring>

#include "kernels/simt/allocations.h"
#include "kernels/simt/api.h"

namespace simt {
namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

size_t most_shared() { return shared_limit(opt.architecture); }

bool launchable(const LaunchInfo& li) {
  const dim3 &g = li.grid, &b = li.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  return threads > 0 && threads <= 1024 && b.x <= 1024 && b.y <= 1024 && b.z <= 64 && g.x > 0 && g.y > 0 && g.z > 0 &&
         g.x <= 2147483647u && g.y <= 65535 && g.z <= 65535;
}

/// The device pointers among a kernel's parameters: every word that is an address of a live allocation.
std::vector<Range> pointers_of(const LaunchInfo& li) {
  std::vector<Range> found;
  const char* const bytes = static_cast<const char*>(li.params.get());
  for (size_t i = 0; i + sizeof(void*) <= li.params_size; i += sizeof(void*)) {
    const void* word = nullptr;
    std::memcpy(&word, bytes + i, sizeof word);
    if (const size_t extent = dev_contains(word) ? device_extent(word) : 0; extent > 0) {
      found.push_back({word, extent, false});
    }
  }
  return found;
}

}  // namespace

/// A launch through simt::launch, which asks for more shared memory by itself where a kernel needs it.
cudaError_t enqueue_launch(LaunchInfo li, cudaStream_t stream) {
  return stream_api("cudaLaunchKernel", stream, [&](Gpu& gpu, Lock& lock, const StreamPtr& s) -> cudaError_t {
    if (!launchable(li)) return cudaErrorInvalidConfiguration;
    if (li.smem > most_shared()) return cudaErrorInvalidValue;
    const auto fault = static_cast<cudaError_t>(injected_error("kernel"));
    Work work{li.name, pointers_of(li), nullptr, true};
    work.poll = [li = std::move(li), fault] {
      if (fault != cudaSuccess) throw ContextError{fault};
      run_grid(li);
      return true;
    };
    return gpu.submit(lock, s, std::move(work));
  });
}

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return api("cudaFuncSetAttribute", [&](Gpu&, Lock&) -> cudaError_t {
    if (function == nullptr || value < 0) return cudaErrorInvalidValue;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    return static_cast<size_t>(value) <= most_shared() ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return api("cudaFuncGetAttributes", [&](Gpu&, Lock&) -> cudaError_t {
    if (attributes == nullptr || function == nullptr) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(kSharedWithoutAsking);
    attributes->binaryVersion = attributes->ptxVersion = settings().arch;
    return cudaSuccess;
  });
}

}  // extern "C"
