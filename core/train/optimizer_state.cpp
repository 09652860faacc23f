#include "core/train/optimizer_state.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr size_t kParts = 3;
constexpr const char* kNames[kParts] = {"master weights", "first moments", "second moments"};

/// f32 values of a tensor in host memory, f32 or bf16.
void widen(const Tensor& from, float* out) {
  if (from.dtype == DType::f32) {
    std::memcpy(out, from.data, from.bytes());
  } else {
    std::transform(from.as<bf16>(), from.as<bf16>() + from.numel(), out, [](bf16 x) { return static_cast<float>(x); });
  }
}

/// The other way: rounded to nearest, exact for what came from there.
void narrow_to(const Tensor& to, const float* values) {
  if (to.dtype == DType::f32) {
    std::memcpy(to.data, values, to.bytes());
  } else {
    std::transform(values, values + to.numel(), to.as<bf16>(), [](float x) { return bf16(x); });
  }
}

}  // namespace

OptimizerState::OptimizerState(const StateOptions& options, ZeroStore& store, Device& device)
    : options_(options), store_(store), device_(device) {
  ensure(store.options().offload || (options.file_directory.empty() && !options.delayed),
         "states in a file and delayed updates are for offloaded gradients");
  for (const int64_t index : store.blocks()) {
    Block& block = blocks_.emplace_back();
    block.block = index;
    block.numel = store.owned(index);
    for (const Segment& s : store.segments()) {
      if (s.block == index) block.segments.push_back(&s);
    }
    if (options.file_directory.empty()) allocate(block);
  }
  cut_into_chunks();
}

void OptimizerState::allocate(Block& block) {
  for (size_t part = 0; part < kParts; ++part) {
    if (part == 0 && on_device() && store_.options().dtype == DType::f32) continue;
    const size_t bytes = static_cast<size_t>(block.numel) * dtype_bytes(dtype_of(static_cast<StatePart>(part)));
    block.memory[part] = device_.alloc(bytes, on_device() ? Place::device : Place::host,
                                       build_string(kNames[part], ": block ", block.block));
  }
}

void OptimizerState::cut_into_chunks() {
  int64_t longest = 0;
  for (const Block& block : blocks_) longest = std::max(longest, block.numel);
  const int64_t step = on_device() ? longest : store_.chunk_elements();
  for (Block& block : blocks_) {
    block.first_chunk = static_cast<int64_t>(chunks_.size());
    for (int64_t begin = 0; begin < block.numel; begin += step) {
      chunks_.push_back({&block, begin, std::min(begin + step, block.numel)});
    }
  }
  if (!options_.file_directory.empty()) {
    file_ = std::make_unique<StateFile>(options_.file_directory, step, static_cast<int64_t>(chunks_.size()),
                                        store_.options().state_dtype, device_);
  }
  if (on_device() || store_.options().offload_parameters) return;
  for (size_t i = 0; i < stages_.size(); ++i) {
    stages_[i].memory =
        device_.alloc(static_cast<size_t>(std::min(step, longest)) * dtype_bytes(store_.options().dtype), Place::pinned,
                      build_string("weights on their way: buffer ", i));
  }
}

const OptimizerState::Block& OptimizerState::block_of(const Segment& s) const {
  const auto found = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.block == s.block; });
  ensure(found != blocks_.end(), "a segment's block is on this rank");
  return *found;
}

Tensor OptimizerState::part_of(size_t index, StatePart part) const {
  const Chunk& chunk = chunks_[index];
  const int64_t numel = chunk.end - chunk.begin;
  if (file_) return file_->part(static_cast<int64_t>(index), static_cast<int>(part)).rows(0, numel);
  const Memory& memory = chunk.block->memory[static_cast<size_t>(part)];
  return Tensor(memory.data(), dtype_of(part), {chunk.block->numel}, memory.place()).rows(chunk.begin, chunk.end);
}

std::vector<OptimizerState::Piece> OptimizerState::pieces_of(size_t index, Weights weights) const {
  const Chunk& chunk = chunks_[index];
  const bool weight_is_master = on_device() && store_.options().dtype == DType::f32;
  const Tensor m = part_of(index, StatePart::first_moment), v = part_of(index, StatePart::second_moment);
  const Tensor master = weight_is_master ? Tensor{} : part_of(index, StatePart::master);
  std::vector<Piece> pieces;
  for (const Segment* s : chunk.block->segments) {
    const int64_t begin = std::max(chunk.begin, s->owned_begin) - s->owned_begin;
    const int64_t end = std::min(chunk.end, s->owned_begin + s->end - s->begin) - s->owned_begin;
    if (begin >= end) continue;
    const int64_t at = s->owned_begin + begin - chunk.begin;
    const auto part = [&](const Tensor& flat) { return flat.rows(at, at + end - begin); };
    const Tensor weight = s->weight.rows(begin, end);
    pieces.push_back({.segment = s,
                      .begin = begin,
                      .grad = s->grad.rows(begin, end),
                      .master = weight_is_master ? weight : part(master),
                      .m = part(m),
                      .v = part(v),
                      .weight = weights == Weights::none ? Tensor{} : weight});
  }
  return pieces;
}

std::vector<OptimizerState::Piece> OptimizerState::pieces_of(size_t index, Tensor weights) const {
  const Chunk& chunk = chunks_[index];
  std::vector<Piece> pieces = pieces_of(index, Weights::none);
  for (Piece& piece : pieces) {
    const int64_t at = piece.segment->owned_begin + piece.begin - chunk.begin;
    piece.weight = weights.rows(at, at + piece.master.numel());
  }
  return pieces;
}

void OptimizerState::update(const Visit& visit, Stream stream) {
  if (on_device()) {
    update_on_device(visit, stream);
  } else if (options_.delayed) {
    settle(stream);
    update_later(visit, stream);
  } else {
    update_on_host(visit, true, stream);
  }
}

void OptimizerState::settle(Stream stream) {
  if (unpublished_) publish_masters(stream);
}

void OptimizerState::publish_masters(Stream stream) {
  const Visit round = [](const Ops& ops, Stream on, const Piece& piece) {
    if (piece.weight.data != piece.master.data) ops.scale(on, piece.weight, piece.master, 1.0f);
  };
  if (on_device()) {
    update_on_device(round, stream);
  } else {
    update_on_host(round, false, stream);
  }
  unpublished_ = false;
}

void OptimizerState::update_on_device(const Visit& visit, Stream stream) {
  for (size_t i = 0; i < chunks_.size(); ++i) {
    store_.before_write(chunks_[i].block->block, stream);
    for (const Piece& piece : pieces_of(i, Weights::in_place)) visit(device_.ops(), stream, piece);
    store_.publish_weights(chunks_[i].block->block, device_.record(stream));
  }
}

std::vector<OptimizerState::Piece> OptimizerState::pieces_for_host(size_t index) {
  const Chunk& chunk = chunks_[index];
  if (ParameterFile* const file = store_.parameter_file()) {
    return pieces_of(index, file->open(static_cast<int64_t>(index)).rows(0, chunk.end - chunk.begin));
  }
  if (!store_.options().offload_parameters) return pieces_of(index, over(stages_[index % stages_.size()], chunk));
  store_.before_write(chunk.block->block, device_.stream(Role::host));
  return pieces_of(index, Weights::in_place);
}

void OptimizerState::update_on_host(const Visit& visit, bool changes, Stream stream) {
  const Stream host = device_.stream(Role::host);
  device_.wait(host, device_.record(stream));
  // With a file the calling thread drives the reads, which must not overtake an update still to come.
  if (file_) device_.synchronize(host);
  for (size_t i = 0; i < chunks_.size(); ++i) {
    Stage& stage = stages_[i % stages_.size()];
    device_.wait(host, stage.sent);
    if (file_) file_->open(static_cast<int64_t>(i));
    device_.on_host([&ops = device_.host_ops(), visit, pieces = pieces_for_host(i), host] {
      for (const Piece& piece : pieces) visit(ops, host, piece);
    });
    stage.written = device_.record(host);
    // The calling thread may have to wait for the processor before it submits a copy: it does so one chunk late, while
    // the processor works on this one.
    if (i > 0) finish_chunk(i - 1, changes);
  }
  if (!chunks_.empty()) finish_chunk(chunks_.size() - 1, changes);
}

void OptimizerState::update_later(const Visit& visit, Stream stream) {
  device_.wait(device_.stream(Role::host), device_.record(stream));
  device_.on_host([this, visit] {
    for (size_t i = 0; i < chunks_.size(); ++i) {
      if (file_) file_->open(static_cast<int64_t>(i));
      for (const Piece& piece : pieces_of(i, Weights::none)) visit(device_.host_ops(), {}, piece);
      if (file_) file_->write(static_cast<int64_t>(i));
    }
  });
  unpublished_ = true;
}

Tensor OptimizerState::over(const Stage& stage, const Chunk& chunk) const {
  return Tensor(stage.memory.data(), store_.options().dtype, {chunk.end - chunk.begin}, Place::pinned);
}

void OptimizerState::finish_chunk(size_t index, bool changed) {
  const Chunk& chunk = chunks_[index];
  Stage& stage = stages_[index % stages_.size()];
  Event there = stage.written;
  if (!store_.options().offload_parameters) {
    const Stream upload = device_.stream(Role::upload);
    device_.wait(upload, stage.written);  // and with it for what the processor waited for: the old weights' last use
    store_.before_write(chunk.block->block, upload);
    for (const Piece& piece : pieces_of(index, over(stage, chunk))) {
      const int64_t n = piece.weight.numel();
      device_.copy(piece.segment->weight.rows(piece.begin, piece.begin + n), piece.weight, upload);
    }
    there = stage.sent = device_.record(upload);
  }
  ParameterFile* const parameters = store_.parameter_file();
  // The window of a chunk that was only read may be taken for another, too.
  if (file_ || parameters != nullptr) device_.synchronize(stage.written);
  if (file_ && changed) file_->write(static_cast<int64_t>(index));
  if (parameters != nullptr) parameters->write(static_cast<int64_t>(index));
  if (chunk.end == chunk.block->numel) store_.publish_weights(chunk.block->block, there);
}

void OptimizerState::for_each_run(const Segment& s, StatePart part, int64_t begin, int64_t end, bool change,
                                  const std::function<void(Tensor run, int64_t begin)>& visit) {
  const Block& block = block_of(s);
  device_.synchronize(device_.stream(Role::host));
  for (size_t i = static_cast<size_t>(block.first_chunk); i < chunks_.size() && chunks_[i].block == &block; ++i) {
    const int64_t from = std::max(chunks_[i].begin, s.owned_begin + begin);
    const int64_t to = std::min(chunks_[i].end, s.owned_begin + end);
    if (from >= to) continue;
    if (file_) file_->open(static_cast<int64_t>(i));
    visit(part_of(i, part).rows(from - chunks_[i].begin, to - chunks_[i].begin), from - s.owned_begin);
    if (file_ && change) file_->change(static_cast<int64_t>(i));
  }
}

Tensor OptimizerState::on_device_part(const Segment& s, StatePart part) const {
  if (part == StatePart::master && store_.options().dtype == DType::f32) return s.weight;
  const Block& block = block_of(s);
  return part_of(static_cast<size_t>(block.first_chunk), part).rows(s.owned_begin, s.owned_begin + s.end - s.begin);
}

void OptimizerState::read(const Segment& s, StatePart part, int64_t begin, int64_t end, float* out) {
  if (!on_device()) {
    for_each_run(s, part, begin, end, false, [&](Tensor run, int64_t at) {
      if (!run.dry()) widen(run, out + (at - begin));
    });
    return;
  }
  const Stream stream = device_.stream(Role::compute);
  const Tensor source = on_device_part(s, part).rows(begin, end);
  std::vector<bf16> narrow(source.dtype == DType::bf16 ? static_cast<size_t>(end - begin) : 0);
  void* const arrived = narrow.empty() ? static_cast<void*>(out) : narrow.data();
  device_.copy(Tensor(arrived, source.dtype, {end - begin}), source, stream);
  device_.synchronize(stream);
  if (!narrow.empty()) widen(Tensor(narrow.data(), DType::bf16, {end - begin}), out);
}

void OptimizerState::write(const Segment& s, StatePart part, int64_t begin, int64_t end, const float* values) {
  if (!on_device()) {
    for_each_run(s, part, begin, end, true, [&](Tensor run, int64_t at) {
      if (!run.dry()) narrow_to(run, values + (at - begin));
    });
    return;
  }
  const Stream stream = device_.stream(Role::compute);
  const Tensor destination = on_device_part(s, part).rows(begin, end);
  std::vector<bf16> narrow(destination.dtype == DType::bf16 ? static_cast<size_t>(end - begin) : 0);
  if (!narrow.empty()) narrow_to(Tensor(narrow.data(), DType::bf16, {end - begin}), values);
  // (A tensor has no read-only data; a copy only reads its source.)
  void* const source = narrow.empty() ? const_cast<float*>(values) : static_cast<void*>(narrow.data());
  device_.copy(destination, Tensor(source, destination.dtype, {end - begin}), stream);
  device_.synchronize(stream);
}

void OptimizerState::clear(const Segment& s, StatePart part) {
  if (!on_device()) {
    for_each_run(s, part, 0, s.end - s.begin, true, [](Tensor run, int64_t) {
      if (!run.dry()) std::memset(run.data, 0, run.bytes());
    });
    return;
  }
  device_.fill_zero(on_device_part(s, part), device_.stream(Role::compute));
}

}  // namespace trident
