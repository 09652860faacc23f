// Layout: where each parameter of a block lies in the block's flat buffers, and how data ranks share them. Pure.
//
// A block's parameters lie in one flat buffer, each starting at a multiple of 32 elements (fused ones directly behind
// one another); the buffer's length is a multiple of data ranks x 32, so that it falls into equal shards.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/module.h"
#include "core/model/param_spec.h"

namespace trident {

struct Placement {
  ParamSpec spec;
  std::vector<int64_t> shape;  ///< local
  int64_t offset = 0;          ///< elements from the start of the flat buffer
  int64_t numel = 0;
  bool alias = false;  ///< a tied copy whose owner is on this rank too: no memory of its own

  int64_t end() const { return offset + numel; }
};

struct BlockLayout {
  int64_t block = 0;  ///< global block index
  std::vector<Placement> params;
  int64_t numel = 0;  ///< of the flat buffer, padding included
  int data = 1;       ///< ranks that share shards

  int64_t shard() const { return numel / data; }
};

/// `owner_here`: the block that owns tied parameters is on this rank, so copies become aliases.
BlockLayout make_block_layout(int64_t block, const std::vector<ParamSpec>&, int tensor, int data, bool owner_here);

/// Blocks [begin, end) of a model chunk.
struct BlockRange {
  int64_t begin = 0, end = 0;
};

/// Cuts the blocks 0 ... layers + 1 into `chunks` consecutive ranges, each with at least one layer, the embedding with
/// the first and the head with the last, so that the costliest is as cheap as can be: the head costs as much as
/// `head_layers` layers, so the last takes fewer; the others share theirs evenly (earlier chunks take the rest). Throws
/// UserError when layers < chunks.
std::vector<BlockRange> partition_blocks(int64_t layers, int chunks, double head_layers);

/// A block's tensors over its flat buffers: `value` of the layout's length (may be dry), `grad` likewise or absent.
/// Aliases take `owner` (the tensors of the block that owns tied parameters).
BlockParams bind_block(const BlockLayout&, Tensor value, Tensor grad, const BlockParams* owner);

}  // namespace trident
