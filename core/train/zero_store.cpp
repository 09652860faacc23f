#include "core/train/zero_store.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/integer.h"

namespace trident {
namespace {

constexpr int64_t kMostChunkElements = int64_t{1} << 20, kChunkStep = 2048;

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
  if (!options.parameter_directory.empty()) make_parameter_file();
  make_buffers();
  for (Block& block : blocks_) bind(block);
  for (const Block& block : blocks_) add_segments(block);
  if (options.offload) make_offload();
}

Tensor ZeroStore::flat_of(const Buffer& buffer, const Block& block, DType dtype) {
  return over(buffer.memory, dtype, block.layout.numel);
}

Tensor ZeroStore::shard_of(const Block& block, Tensor full) const {
  const int64_t shard = block.layout.shard();
  return full.rows(shard_rank() * shard, (shard_rank() + 1) * shard);
}

void ZeroStore::allocate(Block& block) {
  const BlockLayout& layout = block.layout;
  const auto alloc = [&](Memory& memory, const char* what, DType dtype, int64_t numel, Place place) {
    memory = device_.alloc(static_cast<size_t>(numel) * dtype_bytes(dtype), place,
                           build_string(what, ": block ", layout.block));
    return over(memory, dtype, numel);
  };
  if (options_.parameter_directory.empty()) {
    block.value_flat = alloc(block.value, "parameters", options_.dtype, shards_values() ? layout.shard() : layout.numel,
                             options_.offload_parameters ? Place::pinned : Place::device);
  } else {
    block.value_flat = Tensor(nullptr, options_.dtype, {layout.shard()}, Place::pinned);
  }
  if (!shards_grads(block)) {
    block.grad_flat = alloc(block.grad, "gradients", DType::f32, layout.numel, Place::device);
  } else if (!options_.offload) {
    block.grad_flat = alloc(block.grad, "gradients", DType::f32, layout.shard(), Place::device);
  }
  if (options_.offload) {
    block.host_grad_flat = alloc(block.host_grad, "gradients", DType::f32, owned(block), Place::host);
  }
}

int64_t ZeroStore::largest_layer() const {
  int64_t largest = 0;
  for (const Block& block : blocks_) {
    if (!is_end(block)) largest = std::max(largest, owned(block));
  }
  return largest;
}

int64_t ZeroStore::chunk_elements() const {
  return std::min(kMostChunkElements, round_up(largest_layer(), kChunkStep));
}

void ZeroStore::make_parameter_file() {
  const int64_t elements = chunk_elements();
  const auto chunks_of = [elements](int64_t numel) { return ceil_div(numel, elements); };
  int64_t chunks = 0;
  for (Block& block : blocks_) {
    block.first_chunk = chunks;
    chunks += chunks_of(owned(block));
  }
  parameter_file_ = std::make_unique<ParameterFile>(ParameterFile::Options{.directory = options_.parameter_directory,
                                                                           .dtype = options_.dtype,
                                                                           .elements = elements,
                                                                           .chunks = chunks,
                                                                           .layer_chunks = chunks_of(largest_layer())},
                                                    device_);
}

void ZeroStore::make_offload() {
  int64_t sums = 0;
  // Pieces of a layer's size: the end blocks' larger ones take turns like those of several layers.
  offload_ = std::make_unique<GradientOffload>(largest_layer(), device_);
  for (const Segment& s : segments_) {
    if (sums_late(s)) sums += s.end - s.begin;
  }
  const size_t bytes = grid_.tensor->size() > 1 ? static_cast<size_t>(sums) * sizeof(float) : 0;
  sums_memory_ = device_.alloc(bytes, Place::device, "sums over tensor ranks");
  sums_staging_ = device_.alloc(bytes, Place::pinned, "sums over tensor ranks, on the host");
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
  const auto take_turns = [&](const char* name, DType dtype, size_t turns, Buffer* Block::*member) {
    for (size_t turn = 0; turn < std::min(turns, layers.size()); ++turn) {
      Buffer* const buffer = make(build_string(name, ": ", turn), dtype, largest);
      for (size_t i = turn; i < layers.size(); i += turns) layers[i]->*member = buffer;
    }
  };
  if (shards_values()) {
    take_turns("parameters in use", options_.dtype, options_.keep_gathered ? layers.size() : kTurns, &Block::values);
  }
  if (options_.stage >= 2) take_turns("gradients in use", DType::f32, kTurns, &Block::grads);
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
  const int64_t owned_begin = options_.stage == 0 ? 0 : shard_rank() * shard;
  const int64_t owned_end = options_.stage == 0 ? layout.numel : owned_begin + shard;
  const auto owned_part = [&](Tensor flat) {
    return flat.numel() == owned_end - owned_begin ? flat : flat.rows(owned_begin, owned_end);
  };
  const Tensor weight = owned_part(block.value_flat);
  const Tensor grad = options_.offload ? block.host_grad_flat : owned_part(block.grad_flat);

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
           .owned_begin = begin - owned_begin,
           .weight = part(weight),
           .grad = part(grad),
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
  const Tensor full = flat_of(buffer, block, options_.dtype);
  if (buffer.used) device_.wait(comm, buffer.released);
  Tensor shard = block.value_flat;
  if (options_.offload_parameters) {
    const Stream upload = device_.stream(Role::upload);
    if (buffer.used) device_.wait(upload, buffer.released);
    shard = shard_of(block, full);
    if (parameter_file_) {
      parameter_file_->fetch(block.first_chunk, shard);
    } else {
      device_.wait(upload, block.written);
      device_.copy(shard, block.value_flat, upload);
    }
    device_.wait(comm, device_.record(upload));
  } else {
    device_.wait(comm, block.written);
  }
  grid_.shard_axis().all_gather(full, shard, comm);
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
  if (block.values == nullptr || block.values->users > 0) return;
  if (!parameter_file_) return gather(block);
  if (block.values->holds == index) return;
  parameter_file_->read_ahead(block.first_chunk, owned(block));
  read_ahead_ = &block;
}

void ZeroStore::release(int64_t index, Stream stream) {
  Block& block = at(index);
  for (Block* source : sources(block)) {
    if (source->values == nullptr) continue;
    source->values->released = device_.record(stream);
    source->values->used = true;
    --source->values->users;
  }
  // The disk had this block's time. The next one's gather goes ahead of the reduction, which nobody waits for.
  Block* const next = std::exchange(read_ahead_, nullptr);
  if (next != nullptr && next->values->users == 0) gather(*next);
  if (block.pass == Pass::backward && block.grads != nullptr) reduce_in_use(block, stream);
}

void ZeroStore::zero_grads(Stream stream) {
  for (Block& block : blocks_) {
    if (block.grad_flat.defined()) device_.fill_zero(block.grad_flat, stream);
    block.fresh = true;
  }
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
    reduce_to_shard(block, block.grad_flat, comm);
  }
  if (offload_) (void)send_grads(block, owned_of(block, block.grad_flat), device_.record(comm));
}

void ZeroStore::reduce_to_shard(const Block& block, Tensor full, Stream comm) {
  const Tensor shard = shard_of(block, full);
  grid_.shard_axis().reduce_scatter(shard, full, Reduce::sum, comm);
  grid_.replicas->all_reduce(shard, Reduce::sum, comm);
}

Event ZeroStore::send_grads(Block& block, Tensor owned, Event ready) {
  return offload_->send(block.host_grad_flat, owned, std::exchange(block.fresh, false), ready);
}

void ZeroStore::reduce_in_use(Block& block, Stream stream) {
  const Stream comm = device_.stream(Role::comm);
  device_.wait(comm, device_.record(stream));
  const Tensor full = flat_of(*block.grads, block, DType::f32);
  reduce_to_shard(block, full, comm);
  block.grads->released = device_.record(comm);
  if (offload_) block.grads->released = send_grads(block, shard_of(block, full), block.grads->released);
  block.grads->reduced = block.layout.block;
}

void ZeroStore::collect(Buffer& buffer, Stream stream) {
  if (buffer.reduced < 0) return;
  const Block& block = at(buffer.reduced);
  device_.wait(stream, buffer.released);
  if (!offload_) device_.ops().add(stream, block.grad_flat, shard_of(block, flat_of(buffer, block, DType::f32)));
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
  if (offload_) offload_->flush();
  sum_over_tensor_ranks(stream);
}

void ZeroStore::sum_over_tensor_ranks(Stream stream) {
  if (!offload_) {
    for (const Segment& s : segments_) {
      if (sums_late(s)) grid_.tensor->all_reduce(s.grad, Reduce::sum, stream);
    }
    return;
  }
  if (sums_memory_.bytes() == 0) return;
  // Through the device and back: few and short.
  const auto floats = static_cast<int64_t>(sums_memory_.bytes() / sizeof(float));
  const Tensor sums = over(sums_memory_, DType::f32, floats), staging = over(sums_staging_, DType::f32, floats);
  const Stream host = device_.stream(Role::host);
  const auto exchange = [this, staging](bool into_staging) {
    const Ops& ops = device_.host_ops();
    int64_t at = 0;
    for (const Segment& s : segments_) {
      if (!sums_late(s)) continue;
      const Tensor part = staging.rows(at, at + s.grad.numel());
      ops.scale({}, into_staging ? part : s.grad, into_staging ? s.grad : part, 1.0f);
      at += s.grad.numel();
    }
  };
  device_.on_host([exchange] { exchange(true); });
  device_.wait(stream, device_.record(host));
  device_.copy(sums, staging, stream);
  grid_.tensor->all_reduce(sums, Reduce::sum, stream);
  device_.copy(staging, sums, stream);
  device_.wait(host, device_.record(stream));
  device_.on_host([exchange] { exchange(false); });
}

void ZeroStore::publish_weights(int64_t index, Event written) {
  Block& block = at(index);
  if (shards_values()) {
    block.written = written;
    if (block.values->holds == index) block.values->holds = -1;
    return;
  }
  if (options_.stage == 0 && !offload_) return;
  block.gathered = written;
  if (options_.stage > 0) {
    const Stream comm = device_.stream(Role::comm);
    device_.wait(comm, written);
    grid_.shard_axis().all_gather(block.value_flat, shard_of(block, block.value_flat), comm);
    block.gathered = device_.record(comm);
  }
  block.gathering = true;
}

}  // namespace trident
