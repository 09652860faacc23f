#include "core/train/zero_store.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {
namespace {

Tensor over(const Memory& memory, DType dtype, int64_t numel) {
  return Tensor(memory.data(), dtype, {numel}, memory.place());
}

bool has_tied_parameter(const BlockLayout& layout) {
  return std::any_of(layout.params.begin(), layout.params.end(),
                     [](const Placement& p) { return p.spec.name == "embed.token.weight"; });
}

}  // namespace

ZeroStore::ZeroStore(const ZeroOptions& options, std::vector<BlockLayout> layouts, Device& device, Grid& grid)
    : options_(options), device_(device), grid_(grid) {
  ensure(options.stage == 0 || options.stage == 1, "this store knows ZeRO stages 0 and 1");
  blocks_.reserve(layouts.size());
  for (BlockLayout& layout : layouts) {
    Block& block = blocks_.emplace_back();
    block.layout = std::move(layout);
    // `ends` has two ranks on the first and last stage of a pipeline with more than one.
    block.tied_across = options.tied && grid_.ends->size() > 1 && has_tied_parameter(block.layout);
  }
  for (Block& block : blocks_) allocate(block);
  for (const Block& block : blocks_) add_segments(block);
}

void ZeroStore::allocate(Block& block) {
  const BlockLayout& layout = block.layout;
  const auto name = [&](const char* what) { return build_string(what, ": block ", layout.block); };
  const auto bytes = [](DType dtype, int64_t numel) { return static_cast<size_t>(numel) * dtype_bytes(dtype); };
  const int64_t owned = options_.stage == 0 ? layout.numel : layout.shard();

  block.value = device_.alloc(bytes(options_.dtype, layout.numel), Place::device, name("parameters"));
  block.grad = device_.alloc(bytes(DType::f32, layout.numel), Place::device, name("gradients"));
  if (options_.dtype != DType::f32)
    block.master = device_.alloc(bytes(DType::f32, owned), Place::device, name("master weights"));
  block.m = device_.alloc(bytes(DType::f32, owned), Place::device, name("first moments"));
  block.v = device_.alloc(bytes(DType::f32, owned), Place::device, name("second moments"));

  block.value_flat = over(block.value, options_.dtype, layout.numel);
  block.grad_flat = over(block.grad, DType::f32, layout.numel);
  block.params = bind_block(layout, block.value_flat, block.grad_flat, &blocks_.front().params);
}

void ZeroStore::add_segments(const Block& block) {
  const BlockLayout& layout = block.layout;
  const int64_t shard = layout.shard();
  const int64_t owned_begin = options_.stage == 0 ? 0 : grid_.at.data * shard;
  const int64_t owned_end = options_.stage == 0 ? layout.numel : owned_begin + shard;
  const auto owned = [&](const Memory& memory) { return over(memory, DType::f32, owned_end - owned_begin); };
  const Tensor m = owned(block.m), v = owned(block.v);
  const Tensor master =
      options_.dtype == DType::f32 ? block.value_flat.rows(owned_begin, owned_end) : owned(block.master);

  for (const Placement& p : layout.params) {
    if (p.alias) continue;
    // Cut at shard borders at every stage: the norm then adds the same partial sums.
    for (int rank = 0; rank < layout.data; ++rank) {
      const int64_t begin = std::max({p.offset, rank * shard, owned_begin});
      const int64_t end = std::min({p.end(), (rank + 1) * shard, owned_end});
      if (begin >= end) continue;
      const bool split_over_tensor = p.spec.split != Split::none;
      segments_.push_back(
          {.block = layout.block,
           .param = &p,
           .begin = begin - p.offset,
           .end = end - p.offset,
           .weight = block.value_flat.rows(begin, end),
           .grad = block.grad_flat.rows(begin, end),
           .master = master.rows(begin - owned_begin, end - owned_begin),
           .m = m.rows(begin - owned_begin, end - owned_begin),
           .v = v.rows(begin - owned_begin, end - owned_begin),
           .counts = rank == grid_.at.data && !p.spec.tied_copy && (split_over_tensor || grid_.at.tensor == 0)});
    }
  }
}

const ZeroStore::Block& ZeroStore::at(int64_t block) const {
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.layout.block == block; });
  ensure(found != blocks_.end(), "a stage asks for its own blocks");
  return *found;
}

std::vector<int64_t> ZeroStore::blocks() const {
  std::vector<int64_t> indices;
  for (const Block& block : blocks_) indices.push_back(block.layout.block);
  return indices;
}

const BlockParams& ZeroStore::acquire(int64_t index, Pass, Stream stream) {
  Block& block = at(index);
  if (block.gathering) {
    device_.wait(stream, block.gathered);
    block.gathering = false;
  }
  // An aliased table arrives with its owner's gather, which the first block's forward has waited for.
  const bool uses_owner =
      std::any_of(block.layout.params.begin(), block.layout.params.end(), [](const Placement& p) { return p.alias; });
  ensure(!uses_owner || !blocks_.front().gathering, "the embedding is acquired before the head that shares its table");
  return block.params;
}

void ZeroStore::zero_grads(Stream stream) {
  for (Block& block : blocks_) device_.fill_zero(block.grad_flat, stream);
}

void ZeroStore::grads_ready(int64_t index, Stream stream) {
  Block& block = at(index);
  for (size_t i = 0; i < block.layout.params.size(); ++i) {
    if (block.layout.params[i].spec.sum_tensor) grid_.tensor->all_reduce(block.params.grad[i], Reduce::sum, stream);
  }
  // The two copies of a tied table meet once both ends are done: finish_grads.
  if (!block.tied_across) reduce(block, stream);
}

void ZeroStore::reduce(Block& block, Stream stream) {
  const Stream comm = device_.stream(Role::comm);
  device_.wait(comm, device_.record(stream));
  if (options_.stage == 0) {
    grid_.data->all_reduce(block.grad_flat, Reduce::sum, comm);
  } else {
    const int64_t shard = block.layout.shard();
    grid_.data->reduce_scatter(block.grad_flat.rows(grid_.at.data * shard, (grid_.at.data + 1) * shard),
                               block.grad_flat, Reduce::sum, comm);
  }
}

void ZeroStore::finish_grads(Stream stream) {
  for (Block& block : blocks_) {
    if (!block.tied_across) continue;
    for (size_t i = 0; i < block.layout.params.size(); ++i) {
      if (block.layout.params[i].spec.name == "embed.token.weight") {
        grid_.ends->all_reduce(block.params.grad[i], Reduce::sum, stream);
      }
    }
    reduce(block, stream);
  }
  device_.wait(stream, device_.record(device_.stream(Role::comm)));
}

void ZeroStore::publish_weights(Stream stream, bool cast) {
  if (cast && options_.dtype != DType::f32) {
    for (const Segment& s : segments_) device_.ops().scale(stream, s.weight, s.master, 1.0f);
  }
  if (options_.stage == 0) return;
  const Stream comm = device_.stream(Role::comm);
  device_.wait(comm, device_.record(stream));
  for (Block& block : blocks_) {
    const int64_t shard = block.layout.shard();
    grid_.data->all_gather(block.value_flat, block.value_flat.rows(grid_.at.data * shard, (grid_.at.data + 1) * shard),
                           comm);
    block.gathered = device_.record(comm);
    block.gathering = true;
  }
}

}  // namespace trident
