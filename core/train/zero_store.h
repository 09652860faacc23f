// ZeroStore: parameters, gradients and optimizer state of this rank's blocks, shared out over the data ranks
// (Rajbhandari et al., ZeRO, arXiv 1910.02054). Stage 0 keeps everything on every data rank; stage 1 shards master
// weights and moments, stage 2 the gradients of the layers too, stage 3 all weights. All update with the same
// arithmetic; stages 0 and 1 reduce in the same order too and are equal bit for bit, as are 2 and 3. These sum over the
// data ranks after every micro-batch: with one micro-batch a step (and no sums over tensor ranks) all four agree bit
// for bit.
//
// From stage 2 on layers take turns in two full-size buffers for what they use: while one is reduced, or gathered, on
// the communication stream the other is in use. The two end blocks keep full gradients for the whole step: the head
// takes its gradient in forward, tied tables meet across the pipeline; and from stage 3 on a full-size buffer each.
//
// Everything that walks over the state (initialisation, the norm, the update, checkpoints) walks over `segments`: runs
// of one parameter that this rank owns.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/comm/grid.h"
#include "core/device/device.h"
#include "core/train/block_store.h"
#include "core/train/layout.h"

namespace trident {

struct ZeroOptions {
  DType dtype = DType::f32;  ///< of weights and activations
  int stage = 0;             ///< ZeRO stage: 0 ... 3
  int64_t blocks = 0;        ///< of the whole model: the first and the last are its ends
  bool tied = false;         ///< the head shares the embedding's table
};

/// A run of elements of one parameter whose optimizer state this rank holds. All tensors are 1-D views of equal length.
struct Segment {
  int64_t block = 0;  ///< global block index
  const Placement* param = nullptr;
  int64_t begin = 0, end = 0;  ///< in the local parameter, flattened row-major, padding rows included
  Tensor weight, grad;         ///< compute dtype; f32, complete after finish_grads. Of the shard where that is all
  Tensor master, m, v;         ///< f32; master is `weight` itself in f32 runs
  /// Exactly one rank of the job counts each logical element: in the norm and in checkpoints.
  bool counts = false;
};

class ZeroStore final : public BlockStore {
 public:
  /// Allocates everything. `blocks` are this rank's blocks in model order. Device, grid and ledger outlive the store.
  ZeroStore(const ZeroOptions&, std::vector<BlockLayout> blocks, Device&, Grid&);

  const BlockParams& acquire(int64_t block, Pass, Stream) override;
  void release(int64_t block, Stream) override;
  void prefetch(int64_t block) override;
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
  /// Gradients as they are on this rank (local shape), for verification; up to stage 1.
  const BlockParams& params(int64_t block) const { return at(block).params; }

 private:
  /// Full-size memory that blocks take turns in.
  struct Buffer {
    Memory memory;
    Event released;  ///< the last user's work is done
    bool used = false;
    int64_t holds = -1;    ///< the block whose weights of this step are, or will be, in it
    int users = 0;         ///< acquired and not released
    int64_t reduced = -1;  ///< the block whose sums over the data ranks are in it, not yet joined to its shard
  };

  struct Block {
    BlockLayout layout;
    Memory value, grad, master, m, v;
    Tensor value_flat, grad_flat;                ///< over `value` and `grad`: full or this rank's shard
    Buffer *values = nullptr, *grads = nullptr;  ///< where it uses them, when not in place
    BlockParams params;
    bool tied_across = false;  ///< its tied parameter has a copy on another pipeline stage
    Event gathered;
    bool gathering = false;
    Pass pass = Pass::forward;  ///< of the last acquire
  };

  const Block& at(int64_t block) const;
  Block& at(int64_t block) { return const_cast<Block&>(std::as_const(*this).at(block)); }
  bool is_end(const Block& block) const { return block.layout.block == 0 || block.layout.block + 1 == options_.blocks; }
  bool shards_grads(const Block& block) const { return options_.stage >= 2 && !is_end(block); }
  bool shards_values() const { return options_.stage >= 3; }
  /// A buffer as one block's flat tensor.
  static Tensor flat_of(const Buffer&, const Block&, DType);
  /// This rank's part of a block's flat buffer.
  Tensor shard_of(const Block&, Tensor full) const;

  void allocate(Block&);
  void make_buffers();
  void bind(Block&);
  void add_segments(const Block&);
  /// The blocks whose weights a block uses: itself, and the owner of a table that it shares.
  std::vector<Block*> sources(Block&);
  void gather(Block&);
  void reduce(Block&, Stream);
  void reduce_in_use(Block&, Stream);
  void collect(Buffer&, Stream);

  ZeroOptions options_;
  Device& device_;
  Grid& grid_;
  std::vector<Block> blocks_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  Event weights_ready_;  ///< the shards hold the weights of this step
  std::vector<Segment> segments_;
};

}  // namespace trident
