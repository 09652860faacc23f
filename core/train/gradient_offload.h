// GradientOffload: how gradients leave a device for host memory (ZeRO-Offload, arXiv 2101.06840): in pieces through two
// pinned buffers in turn, copied on the download stream, then written or added to their place by the processor, so that
// the device computes the next block's gradients meanwhile.
#pragma once

#include <array>
#include <cstdint>

#include "core/device/device.h"

namespace trident {

class GradientOffload {
 public:
  /// `elements`: of a piece; f32. The device outlives this.
  GradientOffload(int64_t elements, Device&);

  /// Submits host = device (`overwrite`) or host += device, after `ready`. Both flat, f32, of equal length. Returns the
  /// event behind which the device memory may change. `host` is complete for work of Role::host after flush().
  Event send(Tensor host, Tensor device, bool overwrite, Event ready);
  /// Submits what is still waiting in the buffers to the processor.
  void flush();

 private:
  struct Buffer {
    Memory memory;
    Tensor piece;        ///< what it holds
    Tensor destination;  ///< where the piece goes; absent when it is there
    bool overwrite = false;
    Event copied;  ///< the piece is in the buffer
    Event taken;   ///< the piece is where it goes
  };

  void flush(Buffer&);

  const int64_t elements_;
  Device& device_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

}  // namespace trident
