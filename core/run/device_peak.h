// The speed that a device's GEMM reaches, whatever the device: what MFU is measured against on a GPU.
#pragma once

#include "core/device/device.h"

namespace trident {

/// FLOP/s of the best large square GEMM, inputs and output of `dtype`, on the compute stream. Sizes double from 256 to
/// 8192 while `seconds` last and memory does. Allocates three matrices while it runs.
double measure_device_peak(Device&, DType dtype, double seconds);

}  // namespace trident
