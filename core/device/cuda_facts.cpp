#include "core/device/cuda_facts.h"

#include <cuda_runtime_api.h>

#include "core/base/error.h"
#include "kernels/cuda/cuda_ops.h"

namespace trident {
namespace {

GpuFacts gpu_facts(int gpu, int count) {
  GpuFacts facts;
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, gpu) != cudaSuccess) return facts;
  facts.name = properties.name;
  facts.major = properties.major;
  facts.minor = properties.minor;
  facts.bytes = properties.totalGlobalMem;
  // Free memory needs a context on the GPU: only the first is asked, to stay quick.
  size_t total = 0;
  if (gpu == 0) (void)cudaMemGetInfo(&facts.free_bytes, &total);
  for (int other = 0; other < count; ++other) {
    int can = 0;
    if (other != gpu && cudaDeviceCanAccessPeer(&can, gpu, other) == cudaSuccess && can != 0) {
      facts.peers.push_back(other);
    }
  }
  return facts;
}

}  // namespace

size_t free_gpu_bytes(int gpu) {
  size_t free = 0, total = 0;
  if (cudaSetDevice(gpu) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess) return free;
  (void)cudaGetLastError();
  return 0;
}

CudaFacts cuda_facts() {
  CudaFacts facts{.build = cuda_build(), .kernel_driver = kernel_driver_version()};
  (void)cudaDriverGetVersion(&facts.driver);
  (void)cudaRuntimeGetVersion(&facts.runtime);
  facts.cublaslt = cublaslt_version();
  facts.cudnn = cudnn_description();
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    facts.error = build_string(cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
    (void)cudaGetLastError();
    return facts;
  }
  for (int gpu = 0; gpu < count; ++gpu) facts.gpus.push_back(gpu_facts(gpu, count));
  return facts;
}

}  // namespace trident
