// What a build without CUDA links in place of cuda_device.cpp.
#include "core/base/error.h"
#include "core/device/cuda_device.h"
#include "core/device/cuda_facts.h"

namespace trident {

CudaBuild cuda_build() { return CudaBuild::absent; }

std::unique_ptr<Device> make_cuda_device(int, int, AttentionKernel, size_t) {
  throw UserError(
      "device: cuda is not in this binary, which was built without CUDA. On a machine with the CUDA toolkit build it "
      "with: scripts/build.sh release --cuda");
}

size_t free_gpu_bytes(int) { return 0; }

CudaFacts cuda_facts() { return {.kernel_driver = kernel_driver_version()}; }

}  // namespace trident
