// ZeroStore: parameters, gradients and optimizer state of this rank's blocks, shared out over the data ranks
// (Rajbhandari et al., ZeRO, arXiv 1910.02054). Stage 0 keeps everything on every data rank; stage 1 shards master
// weights and moments. Both reduce and update with the same arithmetic in the same order: equal bit for bit.
//
// Everything that walks over the state (initialisation, the norm, the update, checkpoints) walks over `segments`: runs
// of one parameter that this rank owns.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/comm/grid.h"
#include "core/device/device.h"
#include "core/train/block_store.h"
#include "core/train/layout.h"

namespace trident {

struct ZeroOptions {
  DType dtype = DType::f32;  ///< of weights and activations
  int stage = 0;             ///< ZeRO stage: 0 or 1
  bool tied = false;         ///< the head shares the embedding's table
};

/// A run of elements of one parameter whose optimizer state this rank holds. All tensors are 1-D views of equal length.
struct Segment {
  int64_t block = 0;  ///< global block index
  const Placement* param = nullptr;
  int64_t begin = 0, end = 0;  ///< in the local parameter, flattened row-major, padding rows included
  Tensor weight, grad;         ///< compute dtype; f32, complete after finish_grads
  Tensor master, m, v;         ///< f32; master is `weight` itself in f32 runs
  /// Exactly one rank of the job counts each logical element: in the norm and in checkpoints.
  bool counts = false;
};

class ZeroStore final : public BlockStore {
 public:
  /// Allocates everything. `blocks` are this rank's blocks in model order. Device, grid and ledger outlive the store.
  ZeroStore(const ZeroOptions&, std::vector<BlockLayout> blocks, Device&, Grid&);

  const BlockParams& acquire(int64_t block, Pass, Stream) override;
  void release(int64_t, Stream) override {}
  void prefetch(int64_t) override {}
  void grads_ready(int64_t block, Stream) override;

  /// Start of a step: all gradients are zero.
  void zero_grads(Stream);
  /// After every block's grads_ready: sums tied copies, then waits until all reductions are done.
  void finish_grads(Stream);
  /// After the master weights changed: makes the compute weights of all data ranks follow. `cast` rounds master into
  /// weight first (initialisation, loading); the optimizer has done that in its own pass.
  void publish_weights(Stream, bool cast);

  const std::vector<Segment>& segments() const { return segments_; }
  const BlockLayout& layout(int64_t block) const { return at(block).layout; }
  std::vector<int64_t> blocks() const;
  int tensor_rank() const { return grid_.at.tensor; }
  int tensor_size() const { return grid_.topology.tensor; }
  /// Gradients as they are on this rank (local shape), for verification.
  const BlockParams& params(int64_t block) const { return at(block).params; }

 private:
  struct Block {
    BlockLayout layout;
    Memory value, grad, master, m, v;
    Tensor value_flat, grad_flat;
    BlockParams params;
    bool tied_across = false;  ///< its tied parameter has a copy on another pipeline stage
    Event gathered;
    bool gathering = false;
  };

  const Block& at(int64_t block) const;
  Block& at(int64_t block) { return const_cast<Block&>(std::as_const(*this).at(block)); }
  void allocate(Block&);
  void add_segments(const Block&);
  void reduce(Block&, Stream);

  ZeroOptions options_;
  Device& device_;
  Grid& grid_;
  std::vector<Block> blocks_;
  std::vector<Segment> segments_;
};

}  // namespace trident
