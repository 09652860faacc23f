// BlockStore: the model asks for a block's parameters, ZeRO answers. The model never learns the stage, the optimizer or
// where bytes live.
#pragma once

#include <cstdint>

#include "core/base/stream.h"
#include "core/model/module.h"

namespace trident {

enum class Pass : uint8_t { forward, backward };

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  /// The block's parameters and gradients, usable by work submitted to the stream from now on, until `release`.
  virtual const BlockParams& acquire(int64_t block, Pass, Stream) = 0;
  virtual void release(int64_t block, Stream) = 0;
  /// A hint that `block` is acquired next.
  virtual void prefetch(int64_t block) = 0;
  /// The block's gradients of this step are complete on this rank: their reduction may start.
  virtual void grads_ready(int64_t block, Stream) = 0;
};

}  // namespace trident
