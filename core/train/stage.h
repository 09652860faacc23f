// Stage: this rank's part of the model: its chunks of consecutive blocks, run forward and backward through the store.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/comm/ledger.h"
#include "core/model/module.h"
#include "core/train/block_store.h"
#include "core/train/inspector.h"
#include "core/train/layout.h"

namespace trident {

class Stage {
 public:
  /// The chunks of stage `stage` of `stages`, `chunks` each: model chunk c * stages + stage.
  Stage(const ModelShape&, int stages, int stage, int chunks);

  int chunks() const { return static_cast<int>(ranges_.size()); }
  bool first(int chunk) const { return ranges_.at(static_cast<size_t>(chunk)).begin == 0; }
  bool last(int chunk) const { return ranges_.at(static_cast<size_t>(chunk)).end == shape_.layers + 2; }
  const ModelShape& shape() const { return shape_; }

  /// Layouts of all blocks of this rank, for `data` data ranks. Tied copies alias when both ends are here.
  std::vector<BlockLayout> layouts(int data) const;

  /// Runs the chunk. x is absent for the model's first block; the result is absent after its last. An inspector, when
  /// there is one, looks at every block.
  Tensor forward(Exec&, BlockStore&, Ledger&, int chunk, int micro, Tensor x_RD, Saved&,
                 Inspector* inspector = nullptr) const;
  /// dx: gradient of the chunk's output on entry, of its input on return. `last_micro`: the blocks' gradients are
  /// complete when their backward ends.
  void backward(Exec&, BlockStore&, Ledger&, int chunk, int micro, bool last_micro, Tensor dx_RD, Saved&,
                Inspector* inspector = nullptr) const;

 private:
  const Module& module(int64_t block) const;

  ModelShape shape_;
  std::vector<BlockRange> ranges_;                // of each chunk
  std::vector<int64_t> blocks_;                   // of all chunks, ascending
  std::vector<std::unique_ptr<Module>> modules_;  // parallel to blocks_
};

}  // namespace trident
