// InputOffload: the inputs of layers, all that full recomputation keeps, in host memory (ZeRO's CPU checkpointing,
// arXiv 1910.02054, section 6.1). Two buffers on the device take turns: a layer reads its input from one while the last
// input is copied out on the download stream, or the next one in on the upload stream.
#pragma once

#include <array>
#include <cstdint>

#include "core/base/stream.h"
#include "core/device/arena.h"
#include "core/device/device.h"

namespace trident {

class InputOffload {
 public:
  /// Buffers for inputs of at most `rows` x `hidden`. The device outlives this.
  InputOffload(DType, int64_t rows, int64_t hidden, Device&);

  /// Inputs go to this arena of pinned memory from now on: the slot's.
  void use(Arena& host) { host_ = &host; }
  /// A layer's output becomes the next one's input: copies it into the buffer in turn and returns that.
  Tensor keep(Tensor y_RD, Stream);
  /// Copies an input, or the `part` of it that this rank keeps, to the host; returns where it is. `x_RD`: what the part
  /// lies in.
  Tensor send(Tensor part_RD, Tensor x_RD, Stream);
  /// Brings an input back, usable on the stream until done(). `next`: what is fetched after it, absent when there is
  /// none; its copy starts too.
  Tensor fetch(Tensor host_RD, Tensor next_RD, Stream);
  /// Work that uses the input fetched last has been submitted.
  void done(Stream);

 private:
  struct Buffer {
    Memory memory;
    const void* holds = nullptr;  ///< the host memory it was fetched from
    Event filled;                 ///< that copy is done
    Event free;                   ///< what it held is not needed any more
  };

  Tensor over(const Buffer&, Tensor like) const;
  Buffer& take();
  Buffer& start(Tensor host_RD);

  Device& device_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
  Buffer* fetched_ = nullptr;
  Event sent_;  // the last copy to the host; they end in order
  Arena* host_ = nullptr;
};

}  // namespace trident
