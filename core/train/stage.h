// Stage: this rank's part of the model: its chunks of consecutive blocks, run forward and backward through the store.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/ledger.h"
#include "core/model/module.h"
#include "core/train/block_store.h"
#include "core/train/input_offload.h"
#include "core/train/inspector.h"
#include "core/train/layout.h"

namespace trident {

/// Room for full recomputation: forward keeps a layer's input and drops the rest, backward makes it again in here
/// (Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174).
struct Redo {
  Saved saved{Arena{}};  ///< of one layer
  /// [T, D], where tensor ranks hold the same rows: each keeps its part of a layer's input only (ZeRO's partitioned
  /// activations, arXiv 1910.02054, section 6.1), and the whole of it comes here while the layer runs.
  Tensor input_TD;
  InputOffload* inputs = nullptr;  ///< takes them to host memory; nullptr: they stay
};

class Stage {
 public:
  /// The chunks of stage `stage` of `stages`, `chunks` each: model chunk c * stages + stage.
  Stage(const ModelShape&, int stages, int stage, int chunks);

  int chunks() const { return static_cast<int>(ranges_.size()); }
  bool first(int chunk) const { return ranges_.at(static_cast<size_t>(chunk)).begin == 0; }
  bool last(int chunk) const { return ranges_.at(static_cast<size_t>(chunk)).end == shape_.layers + 2; }
  const ModelShape& shape() const { return shape_; }

  /// Layouts of all blocks of this rank, for shards on `data` ranks. Tied copies alias when both ends are here.
  std::vector<BlockLayout> layouts(int data) const;

  /// Runs the chunk. x is absent for the model's first block; the result is absent after its last. With `redo` layers
  /// are recomputed. An inspector, when there is one, looks at every block.
  Tensor forward(Exec&, BlockStore&, Ledger&, int chunk, int micro, Tensor x_RD, Saved&, Redo* redo,
                 Inspector* inspector = nullptr) const;
  /// dx: gradient of the chunk's output on entry, of its input on return. `last_micro`: the blocks' gradients are
  /// complete when their backward ends.
  void backward(Exec&, BlockStore&, Ledger&, int chunk, int micro, bool last_micro, Tensor dx_RD, Saved&, Redo* redo,
                Inspector* inspector = nullptr) const;

  /// Whether recomputation keeps inputs in parts: Redo::input_TD.
  bool keeps_parts(int64_t tokens) const {
    return shape_.tensor > 1 && shape_.row_split() == 1 && tokens % shape_.tensor == 0;
  }

 private:
  bool is_layer(int64_t block) const { return block > 0 && block <= shape_.layers; }
  Tensor forward_dropping(Exec&, int64_t block, bool layer_follows, const BlockParams&, Tensor x_RD, Saved&,
                          Redo&) const;
  void backward_redoing(Exec&, int64_t block, const BlockParams&, Tensor dx_RD, Saved&, Redo&) const;
  const Module& module(int64_t block) const;

  ModelShape shape_;
  std::vector<BlockRange> ranges_;                // of each chunk
  std::vector<int64_t> blocks_;                   // of all chunks, ascending
  std::vector<std::unique_ptr<Module>> modules_;  // parallel to blocks_
};

}  // namespace trident
