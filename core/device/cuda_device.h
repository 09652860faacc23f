// The CUDA device: one GPU of this host. The same source is linked with NVIDIA's libraries (trident) or with their
// emulation (trident-simt); a build without CUDA links cuda_absent.cpp instead.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device/device.h"
#include "kernels/attention_kernel.h"

namespace trident {

/// What this executable was linked with.
enum class CudaBuild : uint8_t { absent, real, emulated };
CudaBuild cuda_build();

/// Chooses the GPU number `local_rank` among those visible and makes the device. `local_size`: ranks on this host.
/// `device_limit`: as of make_cpu_device. Throws UserError that names what is missing: the driver, a GPU for each rank,
/// CUDA itself.
std::unique_ptr<Device> make_cuda_device(int local_rank, int local_size, AttentionKernel attention,
                                         size_t device_limit = 0);

}  // namespace trident
