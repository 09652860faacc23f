#include "core/train/optimizer_state.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/base/error.h"

namespace trident {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;
constexpr size_t kParts = 3;
constexpr const char* kNames[kParts] = {"master weights", "first moments", "second moments"};

}  // namespace

OptimizerState::OptimizerState(ZeroStore& store, Device& device) : store_(store), device_(device) {
  const Place place = on_device() ? Place::device : Place::host;
  for (const int64_t index : store.blocks()) {
    Block& block = blocks_.emplace_back();
    block.block = index;
    block.numel = store.owned(index);
    for (const Segment& s : store.segments()) {
      if (s.block == index) block.segments.push_back(&s);
    }
    for (size_t part = 0; part < kParts; ++part) {
      if (part == 0 && on_device() && store.options().dtype == DType::f32) continue;
      const size_t bytes = static_cast<size_t>(block.numel) * dtype_bytes(dtype_of(static_cast<StatePart>(part)));
      block.memory[part] = device.alloc(bytes, place, build_string(kNames[part], ": block ", index));
    }
  }
  int64_t longest = 0;
  for (const Block& block : blocks_) {
    const int64_t step = on_device() ? block.numel : kChunkElements;
    for (int64_t begin = 0; begin < block.numel; begin += step) {
      chunks_.push_back({&block, begin, std::min(begin + step, block.numel)});
      longest = std::max(longest, chunks_.back().end - begin);
    }
  }
  if (on_device() || store.options().offload_parameters) return;
  for (size_t i = 0; i < stages_.size(); ++i) {
    stages_[i].memory = device.alloc(static_cast<size_t>(longest) * dtype_bytes(store.options().dtype), Place::pinned,
                                     build_string("weights on their way: buffer ", i));
  }
}

Tensor OptimizerState::part_of(const Block& block, StatePart part) const {
  const Memory& memory = block.memory[static_cast<size_t>(part)];
  return Tensor(memory.data(), dtype_of(part), {block.numel}, memory.place());
}

Tensor OptimizerState::part_of(const Segment& s, StatePart part) const {
  if (part == StatePart::master && on_device() && store_.options().dtype == DType::f32) return s.weight;
  const auto block = std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.block == s.block; });
  ensure(block != blocks_.end(), "a segment's block is on this rank");
  return part_of(*block, part).rows(s.owned_begin, s.owned_begin + s.end - s.begin);
}

std::vector<OptimizerState::Piece> OptimizerState::pieces_of(const Chunk& chunk, Tensor stage) const {
  std::vector<Piece> pieces;
  for (const Segment* s : chunk.block->segments) {
    const int64_t begin = std::max(chunk.begin, s->owned_begin) - s->owned_begin;
    const int64_t end = std::min(chunk.end, s->owned_begin + s->end - s->begin) - s->owned_begin;
    if (begin >= end) continue;
    const int64_t at = s->owned_begin + begin - chunk.begin;
    pieces.push_back({.segment = s,
                      .begin = begin,
                      .grad = s->grad.rows(begin, end),
                      .master = part_of(*s, StatePart::master).rows(begin, end),
                      .m = part_of(*s, StatePart::first_moment).rows(begin, end),
                      .v = part_of(*s, StatePart::second_moment).rows(begin, end),
                      .weight = stage.defined() ? stage.rows(at, at + end - begin) : s->weight.rows(begin, end)});
  }
  return pieces;
}

void OptimizerState::update(const Visit& visit, Stream stream) {
  if (on_device()) {
    walk_here(visit, stream);
  } else {
    walk_on_host(visit, stream);
  }
}

void OptimizerState::publish_masters(Stream stream) {
  update(
      [](const Ops& ops, Stream on, const Piece& piece) {
        if (piece.weight.data != piece.master.data) ops.scale(on, piece.weight, piece.master, 1.0f);
      },
      stream);
}

void OptimizerState::walk_here(const Visit& visit, Stream stream) {
  for (const Chunk& chunk : chunks_) {
    for (const Piece& piece : pieces_of(chunk, {})) visit(device_.ops(), stream, piece);
    store_.publish_weights(chunk.block->block, device_.record(stream));
  }
}

void OptimizerState::walk_on_host(const Visit& visit, Stream stream) {
  const Stream host = device_.stream(Role::host);
  const Event before = device_.record(stream);
  device_.wait(host, before);
  device_.wait(device_.stream(Role::upload), before);
  const bool staged = !store_.options().offload_parameters;
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& chunk = chunks_[i];
    Stage& stage = stages_[i % stages_.size()];
    const Tensor memory(stage.memory.data(), store_.options().dtype, {chunk.end - chunk.begin}, Place::pinned);
    device_.wait(host, stage.sent);
    device_.on_host([&ops = device_.host_ops(), visit, pieces = pieces_of(chunk, staged ? memory : Tensor{}), host] {
      for (const Piece& piece : pieces) visit(ops, host, piece);
    });
    stage.written = device_.record(host);
    // The calling thread may have to wait for the processor before it submits a copy: it does so one chunk late, while
    // the processor works on this one.
    if (i > 0) send_weights(chunks_[i - 1], stages_[(i - 1) % stages_.size()]);
  }
  if (!chunks_.empty()) send_weights(chunks_.back(), stages_[(chunks_.size() - 1) % stages_.size()]);
}

void OptimizerState::send_weights(const Chunk& chunk, Stage& stage) {
  Event there = stage.written;
  if (stage.memory.bytes() > 0) {
    const Stream upload = device_.stream(Role::upload);
    device_.wait(upload, stage.written);
    const Tensor memory(stage.memory.data(), store_.options().dtype, {chunk.end - chunk.begin}, Place::pinned);
    for (const Piece& piece : pieces_of(chunk, memory)) {
      const int64_t n = piece.weight.numel();
      device_.copy(piece.segment->weight.rows(piece.begin, piece.begin + n), piece.weight, upload);
    }
    there = stage.sent = device_.record(upload);
  }
  if (chunk.end == chunk.block->numel) store_.publish_weights(chunk.block->block, there);
}

void OptimizerState::read(const Segment& s, StatePart part, int64_t begin, int64_t end, float* out) {
  const Stream stream = device_.stream(on_device() ? Role::compute : Role::upload);
  if (!on_device()) device_.synchronize(device_.stream(Role::host));
  const Tensor source = part_of(s, part).rows(begin, end);
  std::vector<bf16> narrow(source.dtype == DType::bf16 ? static_cast<size_t>(end - begin) : 0);
  void* const arrived = narrow.empty() ? static_cast<void*>(out) : narrow.data();
  device_.copy(Tensor(arrived, source.dtype, {end - begin}), source, stream);
  device_.synchronize(stream);
  std::transform(narrow.begin(), narrow.end(), out, [](bf16 x) { return static_cast<float>(x); });
}

void OptimizerState::write(const Segment& s, StatePart part, int64_t begin, int64_t end, const float* values) {
  const Stream stream = device_.stream(on_device() ? Role::compute : Role::upload);
  if (!on_device()) device_.synchronize(device_.stream(Role::host));
  const Tensor destination = part_of(s, part).rows(begin, end);
  std::vector<bf16> narrow;
  if (destination.dtype == DType::bf16) {
    std::transform(values, values + (end - begin), std::back_inserter(narrow), [](float x) { return bf16(x); });
  }
  // (A tensor has no read-only data; a copy only reads its source.)
  void* const source = narrow.empty() ? const_cast<float*>(values) : static_cast<void*>(narrow.data());
  device_.copy(destination, Tensor(source, destination.dtype, {end - begin}), stream);
  device_.synchronize(stream);
}

void OptimizerState::clear(const Segment& s, StatePart part) {
  const Tensor all = part_of(s, part);
  if (on_device()) {
    device_.fill_zero(all, device_.stream(Role::compute));
    return;
  }
  device_.synchronize(device_.stream(Role::host));
  if (!all.dry()) std::memset(all.data, 0, all.bytes());
}

}  // namespace trident
