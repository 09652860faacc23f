// Opaque handles for order of execution. Their meaning belongs to the Device that made them: on the CPU a queue of a
// worker thread (or the calling thread itself), on CUDA a cudaStream_t. Nothing below core/device looks inside.
#pragma once

#include <cstdint>

namespace trident {

/// Work submitted to one stream happens in order. Copyable, not owning; there is no default stream.
struct Stream {
  void* handle = nullptr;
};

/// A point in a stream's work, from Device::record. Copyable, not owning.
struct Event {
  void* handle = nullptr;
  uint64_t ticket = 0;
};

}  // namespace trident
