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
  ensure(options.stage >= 0 && options.stage <= 3, "this store knows ZeRO stages 0 to 3");
  blocks_.reserve(layouts.size());
  for (BlockLayout& layout : layouts) {
    Block& block = blocks_.emplace_back();
    block.layout = std::move(layout);
    // `ends` has two ranks on the first and last stage of a pipeline with more than one.
    block.tied_across = options.tied && grid_.ends->size() > 1 && has_tied_parameter(block.layout);
  }
  for (Block& block : blocks_) allocate(block);
  make_buffers();
  for (Block& block : blocks_) bind(block);
  for (const Block& block : blocks_) add_segments(block);
}

Tensor ZeroStore::flat_of(const Buffer& buffer, const Block& block, DType dtype) {
  return over(buffer.memory, dtype, block.layout.numel);
}

Tensor ZeroStore::shard_of(const Block& block, Tensor full) const {
  const int64_t shard = block.layout.shard();
  return full.rows(grid_.at.data * shard, (grid_.at.data + 1) * shard);
}

void ZeroStore::allocate(Block& block) {
  const BlockLayout& layout = block.layout;
  const auto alloc = [&](const char* what, DType dtype, int64_t numel) {
    return device_.alloc(static_cast<size_t>(numel) * dtype_bytes(dtype), Place::device,
                         build_string(what, ": block ", layout.block));
  };
  const int64_t owned = options_.stage == 0 ? layout.numel : layout.shard();
  const int64_t values = shards_values() ? layout.shard() : layout.numel;
  const int64_t grads = shards_grads(block) ? layout.shard() : layout.numel;

  block.value = alloc("parameters", options_.dtype, values);
  block.grad = alloc("gradients", DType::f32, grads);
  if (options_.dtype != DType::f32) block.master = alloc("master weights", DType::f32, owned);
  block.m = alloc("first moments", DType::f32, owned);
  block.v = alloc("second moments", DType::f32, owned);

  block.value_flat = over(block.value, options_.dtype, values);
  block.grad_flat = over(block.grad, DType::f32, grads);
}

void ZeroStore::make_buffers() {
  constexpr size_t kTurns = 2;
  std::vector<Block*> layers;
  int64_t largest = 0;
  for (Block& block : blocks_) {
    if (is_end(block)) continue;
    layers.push_back(&block);
    largest = std::max(largest, block.layout.numel);
  }
  const auto make = [&](const std::string& name, DType dtype, int64_t numel) {
    Buffer* buffer = buffers_.emplace_back(std::make_unique<Buffer>()).get();
    buffer->memory = device_.alloc(static_cast<size_t>(numel) * dtype_bytes(dtype), Place::device, name);
    return buffer;
  };
  for (size_t turn = 0; turn < std::min(kTurns, layers.size()); ++turn) {
    Buffer* values =
        shards_values() ? make(build_string("parameters in use: ", turn), options_.dtype, largest) : nullptr;
    Buffer* grads = options_.stage >= 2 ? make(build_string("gradients in use: ", turn), DType::f32, largest) : nullptr;
    for (size_t i = turn; i < layers.size(); i += kTurns) {
      layers[i]->values = values;
      layers[i]->grads = grads;
    }
  }
  for (Block& block : blocks_) {
    if (!shards_values() || !is_end(block)) continue;
    block.values =
        make(build_string("parameters in use: block ", block.layout.block), options_.dtype, block.layout.numel);
  }
}

void ZeroStore::bind(Block& block) {
  const auto used = [&](const Buffer* buffer, Tensor in_place) {
    return buffer == nullptr ? in_place : flat_of(*buffer, block, in_place.dtype);
  };
  block.params = bind_block(block.layout, used(block.values, block.value_flat), used(block.grads, block.grad_flat),
                            &blocks_.front().params);
}

void ZeroStore::add_segments(const Block& block) {
  const BlockLayout& layout = block.layout;
  const int64_t shard = layout.shard();
  const int64_t owned_begin = options_.stage == 0 ? 0 : grid_.at.data * shard;
  const int64_t owned_end = options_.stage == 0 ? layout.numel : owned_begin + shard;
  const auto owned = [&](Tensor flat) {
    return flat.numel() == owned_end - owned_begin ? flat : flat.rows(owned_begin, owned_end);
  };
  const auto state = [&](const Memory& memory) { return over(memory, DType::f32, owned_end - owned_begin); };
  const Tensor weight = owned(block.value_flat), grad = owned(block.grad_flat);
  const Tensor m = state(block.m), v = state(block.v);
  const Tensor master = options_.dtype == DType::f32 ? weight : state(block.master);

  for (const Placement& p : layout.params) {
    if (p.alias) continue;
    // Cut at shard borders at every stage: the norm then adds the same partial sums.
    for (int rank = 0; rank < layout.data; ++rank) {
      const int64_t begin = std::max({p.offset, rank * shard, owned_begin});
      const int64_t end = std::min({p.end(), (rank + 1) * shard, owned_end});
      if (begin >= end) continue;
      const bool split_over_tensor = p.spec.split != Split::none;
      const auto part = [&](Tensor flat) { return flat.rows(begin - owned_begin, end - owned_begin); };
      segments_.push_back(
          {.block = layout.block,
           .param = &p,
           .begin = begin - p.offset,
           .end = end - p.offset,
           .weight = part(weight),
           .grad = part(grad),
           .master = part(master),
           .m = part(m),
           .v = part(v),
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

std::vector<ZeroStore::Block*> ZeroStore::sources(Block& block) {
  const bool uses_owner =
      std::any_of(block.layout.params.begin(), block.layout.params.end(), [](const Placement& p) { return p.alias; });
  if (uses_owner && &block != &blocks_.front()) return {&block, &blocks_.front()};
  return {&block};
}

void ZeroStore::gather(Block& block) {
  Buffer& buffer = *block.values;
  if (buffer.holds == block.layout.block) return;
  ensure(buffer.users == 0, "a block's weights are gathered where no other block is in use");
  const Stream comm = device_.stream(Role::comm);
  if (buffer.used) device_.wait(comm, buffer.released);
  device_.wait(comm, weights_ready_);
  grid_.data->all_gather(flat_of(buffer, block, options_.dtype), block.value_flat, comm);
  block.gathered = device_.record(comm);
  block.gathering = true;
  buffer.holds = block.layout.block;
}

const BlockParams& ZeroStore::acquire(int64_t index, Pass pass, Stream stream) {
  Block& block = at(index);
  for (Block* source : sources(block)) {
    if (source->values != nullptr) {
      gather(*source);
      ++source->values->users;
    }
    if (source->gathering) device_.wait(stream, source->gathered);
    source->gathering = false;
  }
  if (pass == Pass::backward && block.grads != nullptr) {
    collect(*block.grads, stream);
    device_.fill_zero(flat_of(*block.grads, block, DType::f32), stream);
  }
  block.pass = pass;
  return block.params;
}

void ZeroStore::prefetch(int64_t index) {
  Block& block = at(index);
  if (block.values != nullptr && block.values->users == 0) gather(block);
}

void ZeroStore::release(int64_t index, Stream stream) {
  Block& block = at(index);
  for (Block* source : sources(block)) {
    if (source->values == nullptr) continue;
    source->values->released = device_.record(stream);
    source->values->used = true;
    --source->values->users;
  }
  if (block.pass == Pass::backward && block.grads != nullptr) reduce_in_use(block, stream);
}

void ZeroStore::zero_grads(Stream stream) {
  for (Block& block : blocks_) device_.fill_zero(block.grad_flat, stream);
}

void ZeroStore::grads_ready(int64_t index, Stream stream) {
  Block& block = at(index);
  if (block.grads != nullptr) return;  // reduced at every release
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
    grid_.data->reduce_scatter(shard_of(block, block.grad_flat), block.grad_flat, Reduce::sum, comm);
  }
}

void ZeroStore::reduce_in_use(Block& block, Stream stream) {
  const Stream comm = device_.stream(Role::comm);
  device_.wait(comm, device_.record(stream));
  const Tensor full = flat_of(*block.grads, block, DType::f32);
  grid_.data->reduce_scatter(shard_of(block, full), full, Reduce::sum, comm);
  block.grads->released = device_.record(comm);
  block.grads->reduced = block.layout.block;
}

void ZeroStore::collect(Buffer& buffer, Stream stream) {
  if (buffer.reduced < 0) return;
  const Block& block = at(buffer.reduced);
  device_.wait(stream, buffer.released);
  device_.ops().add(stream, block.grad_flat, shard_of(block, flat_of(buffer, block, DType::f32)));
  buffer.reduced = -1;
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
  for (const auto& buffer : buffers_) collect(*buffer, stream);
  for (const Segment& s : segments_) {
    if (s.param->spec.sum_tensor && at(s.block).grads != nullptr) {
      grid_.tensor->all_reduce(s.grad, Reduce::sum, stream);
    }
  }
}

void ZeroStore::publish_weights(Stream stream, bool cast) {
  if (cast && options_.dtype != DType::f32) {
    for (const Segment& s : segments_) device_.ops().scale(stream, s.weight, s.master, 1.0f);
  }
  if (options_.stage == 0) return;
  if (shards_values()) {
    weights_ready_ = device_.record(stream);
    for (const auto& buffer : buffers_) buffer->holds = -1;
    return;
  }
  const Stream comm = device_.stream(Role::comm);
  device_.wait(comm, device_.record(stream));
  for (Block& block : blocks_) {
    grid_.data->all_gather(block.value_flat, shard_of(block, block.value_flat), comm);
    block.gathered = device_.record(comm);
    block.gathering = true;
  }
}

}  // namespace trident
