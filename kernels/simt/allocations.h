// What the parts of the emulated runtime's C API share about memory and devices.
#pragma once

#include <cstddef>

namespace simt {

/// Bytes from a device address to the end of its live allocation, 0 outside of all. With the device's mutex held.
size_t device_extent(const void* address);

/// The calling thread's cudaSetDevice.
int current_device();

}  // namespace simt
