// ZeroStore: parameters and gradients of this rank's blocks, shared out over the data ranks (Rajbhandari et al., ZeRO,
// arXiv 1910.02054). Stage 0 keeps everything on every data rank; stage 1 shards master weights and moments
// (OptimizerState), stage 2 the gradients of the layers too, stage 3 all weights. All update with the same
// arithmetic; stages 0 and 1 reduce in the same order too and are equal bit for bit, as are 2 and 3. These sum over the
// data ranks after every micro-batch: with one micro-batch a step (and no sums over tensor ranks) all four agree bit
// for bit.
//
// From stage 2 on layers take turns in two full-size buffers for what they use: while one is reduced, or gathered, on
// the communication stream the other is in use. The two end blocks keep full gradients for the whole step: the head
// takes its gradient in forward, tied tables meet across the pipeline; and from stage 3 on a full-size buffer each.
//
// Hybrid sharding (Grid::shards) shards within groups of data ranks and sums over the groups besides.
//
// With `offload` the gradients that this rank owns are in host memory: full ones are copied there when they are
// complete, those of layers from stage 2 on after every micro-batch. The sums are the same, bit for bit.
// With `offload_parameters` the shards of the weights are in host memory or in a file, which is read one block ahead.
//
// Everything that walks over the state (initialisation, the norm, the update, checkpoints) walks over `segments`: runs
// of one parameter that this rank owns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/comm/grid.h"
#include "core/device/device.h"
#include "core/train/block_store.h"
#include "core/train/gradient_offload.h"
#include "core/train/layout.h"
#include "core/train/parameter_file.h"

namespace trident {

struct ZeroOptions {
  DType dtype = DType::f32;         ///< of weights and activations
  DType state_dtype = DType::f32;   ///< of the moments: f32 or bf16
  int stage = 0;                    ///< ZeRO stage: 0 ... 3
  int64_t blocks = 0;               ///< of the whole model: the first and the last are its ends
  bool tied = false;                ///< the head shares the embedding's table
  bool keep_gathered = false;       ///< a layer's gathered weights stay until the update; from stage 3 on
  bool offload = false;             ///< gradients and optimizer state are not on the device
  bool offload_parameters = false;  ///< nor the shards of the weights; with stage 3 and `offload`
  std::string parameter_directory;  ///< where these are in a file; "" is host memory
};

/// A run of elements of one parameter that this rank updates. The tensors are 1-D views of equal length.
struct Segment {
  int64_t block = 0;  ///< global block index
  const Placement* param = nullptr;
  int64_t begin = 0, end = 0;  ///< in the local parameter, flattened row-major, padding rows included
  int64_t owned_begin = 0;     ///< its first element in the part of the block's flat buffer that this rank owns
  Tensor weight;               ///< compute dtype; without memory where it is in a file
  Tensor grad;                 ///< f32, complete after finish_grads; in host memory with `offload`
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
  /// Work that the stream gets from now on may write the weights this rank owns: no gather still reads them.
  void before_write(int64_t block, Stream stream) { device_.wait(stream, at(block).gathered); }
  /// After a block's owned weights were written, at `written`: makes the compute weights of all data ranks follow.
  /// Collective over the data axis; every rank publishes its blocks in the same order.
  void publish_weights(int64_t block, Event written);

  const std::vector<Segment>& segments() const { return segments_; }
  const BlockLayout& layout(int64_t block) const { return at(block).layout; }
  std::vector<int64_t> blocks() const;
  const ZeroOptions& options() const { return options_; }
  /// Elements of a block that this rank updates.
  int64_t owned(int64_t block) const { return owned(at(block)); }
  /// Elements of the chunks in which what this rank owns of a block passes through the processor and files: of a
  /// layer's size, 2^20 at most; a multiple of 2048.
  int64_t chunk_elements() const;
  /// Where the weights are in a file: that, with the chunks of all blocks in their order. Else nullptr.
  ParameterFile* parameter_file() const { return parameter_file_.get(); }
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
    Memory value, grad, host_grad;
    Tensor value_flat, grad_flat;  ///< over `value` and `grad`: full or this rank's shard; absent where in use only
    Tensor host_grad_flat;         ///< with `offload`: what this rank owns
    bool fresh = true;             ///< nothing of this step is in host_grad yet
    Event written;                 ///< the shard holds the weights of this step
    int64_t first_chunk = 0;       ///< in the file
    Buffer *values = nullptr, *grads = nullptr;  ///< where it uses them, when not in place
    BlockParams params;
    bool tied_across = false;  ///< its tied parameter has a copy on another pipeline stage
    Event gathered;
    bool gathering = false;
    Pass pass = Pass::forward;  ///< of the last acquire
  };

  const Block& at(int64_t block) const;
  Block& at(int64_t block) { return const_cast<Block&>(std::as_const(*this).at(block)); }
  /// Which of the shards is this rank's.
  int shard_rank() const { return grid_.at.data % grid_.topology.shards(); }
  bool is_end(const Block& block) const { return block.layout.block == 0 || block.layout.block + 1 == options_.blocks; }
  bool shards_grads(const Block& block) const { return options_.stage >= 2 && !is_end(block); }
  bool shards_values() const { return options_.stage >= 3; }
  /// A buffer as one block's flat tensor.
  static Tensor flat_of(const Buffer&, const Block&, DType);
  /// This rank's part of a block's flat buffer.
  Tensor shard_of(const Block&, Tensor full) const;
  int64_t owned(const Block& block) const { return options_.stage == 0 ? block.layout.numel : block.layout.shard(); }
  /// The part of full gradients that this rank updates.
  Tensor owned_of(const Block& block, Tensor full) const { return options_.stage == 0 ? full : shard_of(block, full); }

  void allocate(Block&);
  int64_t largest_layer() const;
  void make_parameter_file();
  void make_buffers();
  void make_offload();
  void bind(Block&);
  void add_segments(const Block&);
  /// The blocks whose weights a block uses: itself, and the owner of a table that it shares.
  std::vector<Block*> sources(Block&);
  void gather(Block&);
  void reduce(Block&, Stream);
  /// Sums full gradients over the data ranks into this rank's part of them.
  void reduce_to_shard(const Block&, Tensor full, Stream comm);
  void reduce_in_use(Block&, Stream);
  void collect(Buffer&, Stream);
  /// Whether its gradient is summed over the tensor ranks when all micro-batches are in it.
  bool sums_late(const Segment& s) const { return s.param->spec.sum_tensor && at(s.block).grads != nullptr; }
  Event send_grads(Block&, Tensor owned, Event ready);
  void sum_over_tensor_ranks(Stream);

  ZeroOptions options_;
  Device& device_;
  Grid& grid_;
  std::vector<Block> blocks_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<Segment> segments_;
  std::unique_ptr<GradientOffload> offload_;
  std::unique_ptr<ParameterFile> parameter_file_;
  Block* read_ahead_ = nullptr;  ///< from the file, and not yet gathered
  /// With `offload`: sums over tensor ranks of gradients that were summed in host memory; on the device and pinned.
  Memory sums_memory_, sums_staging_;
};

}  // namespace trident
