// What CUDA says about this machine, as plain facts: `doctor` judges them. A build without CUDA has the driver's alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/device/cuda_device.h"

namespace trident {

struct GpuFacts {
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  size_t bytes = 0, free_bytes = 0;
  std::vector<int> peers;  ///< GPUs whose memory this one reads directly
};

struct CudaFacts {
  CudaBuild build = CudaBuild::absent;
  std::string kernel_driver;  ///< "570.124.06" of /proc/driver/nvidia/version; empty when not loaded
  int driver = 0;             ///< CUDA version the driver serves, 12040 for 12.4; 0: no driver library
  int runtime = 0;            ///< CUDA version this binary was built with
  std::string error;          ///< why no GPU can be used, in CUDA's words; empty when one can
  std::string cublaslt;       ///< versions of the libraries
  std::string cudnn;          ///< "cuDNN 9.19.0", "no cuDNN"
  std::vector<GpuFacts> gpus;
};

CudaFacts cuda_facts();

/// Free memory of one visible GPU; 0 when there is no such GPU. Makes a context on it, and leaves it the thread's.
size_t free_gpu_bytes(int gpu);

/// The NVIDIA kernel driver's version, read from /proc.
std::string kernel_driver_version();

}  // namespace trident
