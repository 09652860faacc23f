// The bridge between a store's segments and a checkpoint: logical tensors "model.<name>" (master weights),
// "optimizer.exp_avg.<name>" and "optimizer.exp_avg_sq.<name>", all f32, cut into boxes of at most 16 MiB. Moments that
// a run holds in bf16 are widened, which is exact, and rounded to nearest when they are loaded: what was bf16 comes
// back as it was.
#pragma once

#include <vector>

#include "core/checkpoint/reader.h"
#include "core/checkpoint/writer.h"
#include "core/device/device.h"
#include "core/train/optimizer_state.h"
#include "core/train/zero_store.h"

namespace trident {

/// What this rank contributes to a checkpoint. The pieces are read into one buffer as they are written. Store and state
/// outlive it.
class StatePieces {
 public:
  StatePieces(const ZeroStore&, OptimizerState&);
  StatePieces(const StatePieces&) = delete;
  StatePieces& operator=(const StatePieces&) = delete;

  const std::vector<LocalPiece>& pieces() const { return pieces_; }

 private:
  OptimizerState& state_;
  std::vector<float> buffer_;
  std::vector<LocalPiece> pieces_;
};

/// Bytes of this rank's pieces: what an asynchronous checkpoint copies to the host.
size_t state_bytes(const ZeroStore&);

/// Reads this rank's weights, and the moments when the checkpoint has them (returns whether), then publishes the
/// weights. Throws UserError when a tensor is missing or has another shape.
bool load_state(const ZeroStore&, OptimizerState&, Device&, CheckpointReader&);

}  // namespace trident
