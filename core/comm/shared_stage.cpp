#include "core/comm/shared_stage.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/comm/combine.h"

namespace trident {
namespace {

constexpr size_t kLine = 64;
/// Where ranks outnumber cores, every microsecond is taken from the rank waited for; where not, yielding comes back at
/// once.
constexpr std::chrono::microseconds kSpin{2};
/// An all_reduce whose tensors together are no longer takes one post: every rank sums everything.
constexpr size_t kAtOnceBytes = size_t{16} << 10;

size_t round_down(size_t bytes, size_t unit) { return bytes / unit * unit; }

void copy_bytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);  // nothing may be at no address
}

/// Into memory that the cache of another rank's core holds, from its last reading.
void copy_to_stage(std::byte* to, const std::byte* from, size_t bytes) {
  size_t at = 0;
  for (; at + kLine <= bytes; at += kLine) {
    __builtin_prefetch(to + at + kAskAheadBytes, 1);
    std::memcpy(to + at, from + at, kLine);
  }
  copy_bytes(to + at, from + at, bytes - at);
}

/// Out of another rank's area, which leaves the memory idle: time to fetch what is staged `bytes` next.
void copy_from_stage(std::byte* to, const std::byte* from, size_t bytes, const std::byte* next) {
  size_t at = 0;
  for (; at + kLine <= bytes; at += kLine) {
    __builtin_prefetch(next + at, 0, 2);
    std::memcpy(to + at, from + at, kLine);
  }
  copy_bytes(to + at, from + at, bytes - at);
}

}  // namespace

SharedStage::SharedStage(SharedSegment segment, int rank, int size, size_t stage_bytes, Seconds timeout)
    : segment_(std::move(segment)),
      rank_(rank),
      size_(size),
      half_bytes_(round_down(stage_bytes / 2, kLine)),
      slot_bytes_(round_down(half_bytes_ / static_cast<size_t>(size), kLine)),
      timeout_(timeout),
      flags_(reinterpret_cast<Flag*>(segment_.data())),
      pieces_(static_cast<size_t>(size)) {
  ensure(slot_bytes_ > 0, "a stage has at least two lines for every rank");
}

size_t SharedStage::segment_bytes(int size, size_t stage_bytes) {
  return static_cast<size_t>(size) * (sizeof(Flag) + stage_bytes);
}

std::byte* SharedStage::area(int rank) const {
  std::byte* const areas = segment_.data() + static_cast<size_t>(size_) * sizeof(Flag);
  return areas + (2 * static_cast<size_t>(rank) + turn_ % 2) * half_bytes_;
}

void SharedStage::begin_turn() {
  ++turn_;
  previous_post_ = std::exchange(first_post_, posts_ + 1);
}

void SharedStage::wait_to_write(const GiveUp& give_up) {
  for (int i = 1; i < size_; ++i) wait_for_posts(peer_at(i), previous_post_, give_up);
}

void SharedStage::post() { flags_[rank_].posts.store(++posts_, std::memory_order_release); }

void SharedStage::wait_for(int peer, const GiveUp& give_up) { wait_for_posts(peer, posts_, give_up); }

void SharedStage::wait_for_all(const GiveUp& give_up) {
  for (int i = 1; i < size_; ++i) wait_for(peer_at(i), give_up);
}

void SharedStage::wait_for_posts(int peer, uint64_t posts, const GiveUp& give_up) {
  const auto seen = [&] { return flags_[peer].posts.load(std::memory_order_acquire) >= posts; };
  if (seen()) return;
  for (Patience patience(kSpin); !seen(); patience.pause()) {
    if (patience.waited() > timeout_) give_up();
  }
}

void SharedStage::all_reduce(std::byte* inout, int64_t count, DType dtype, Reduce reduce, const GiveUp& give_up) {
  const size_t element = dtype_bytes(dtype), bytes = static_cast<size_t>(count) * element;
  if (bytes <= half_bytes_ && bytes * static_cast<size_t>(size_) <= kAtOnceBytes) {
    return all_reduce_at_once(inout, count, dtype, reduce, give_up);
  }
  const int64_t most = static_cast<int64_t>(slot_bytes_ / element) * size_;
  for (int64_t at = 0; at < count; at += most) {
    all_reduce_turn(inout + static_cast<size_t>(at) * element, std::min(most, count - at), dtype, reduce, give_up);
  }
}

void SharedStage::all_reduce_at_once(std::byte* inout, int64_t count, DType dtype, Reduce reduce,
                                     const GiveUp& give_up) {
  begin_turn();
  wait_to_write(give_up);
  copy_to_stage(area(rank_), inout, static_cast<size_t>(count) * dtype_bytes(dtype));
  post();
  wait_for_all(give_up);
  for (int i = 0; i < size_; ++i) pieces_[static_cast<size_t>(i)] = i == rank_ ? inout : area(i);
  combine_pieces(dtype, reduce, inout, pieces_, count);
}

// Slot i of an area holds its rank's share of the sum that rank i makes; the rank's own slot, which has none, the sum.
void SharedStage::all_reduce_turn(std::byte* inout, int64_t count, DType dtype, Reduce reduce, const GiveUp& give_up) {
  const size_t element = dtype_bytes(dtype);
  const Parts parts{count, size_};
  const auto part = [&](int i) { return inout + static_cast<size_t>(parts.begin(i)) * element; };
  const auto bytes = [&](int i) { return static_cast<size_t>(parts.end(i) - parts.begin(i)) * element; };
  const auto slot = [&](int area_of, int i) { return area(area_of) + static_cast<size_t>(i) * slot_bytes_; };

  begin_turn();
  wait_to_write(give_up);
  for (int i = 1; i < size_; ++i) copy_to_stage(slot(rank_, peer_at(i)), part(peer_at(i)), bytes(peer_at(i)));
  post();
  wait_for_all(give_up);
  for (int i = 0; i < size_; ++i) pieces_[static_cast<size_t>(i)] = i == rank_ ? part(i) : slot(i, rank_);
  combine_pieces(dtype, reduce, part(rank_), pieces_, parts.end(rank_) - parts.begin(rank_), slot(rank_, rank_));
  post();
  for (int i = 1; i < size_; ++i) {
    const int peer = peer_at(i);
    wait_for(peer, give_up);
    copy_from_stage(part(peer), slot(peer, peer), bytes(peer), part(peer) + static_cast<size_t>(count) * element);
  }
}

void SharedStage::reduce_scatter(std::byte* own, const std::byte* full, const Parts& parts, DType dtype, Reduce reduce,
                                 const GiveUp& give_up) {
  const size_t element = dtype_bytes(dtype);
  const auto most = static_cast<int64_t>(slot_bytes_ / element);
  for (int64_t at = 0; at < parts.end(0); at += most) {
    const auto piece = [&](int i) { return full + static_cast<size_t>(parts.begin(i) + at) * element; };
    const auto length = [&](int i) { return std::clamp<int64_t>(parts.end(i) - parts.begin(i) - at, 0, most); };
    const auto slot = [&](int area_of, int i) { return area(area_of) + static_cast<size_t>(i) * slot_bytes_; };
    begin_turn();
    wait_to_write(give_up);
    for (int i = 1; i < size_; ++i) {
      const int peer = peer_at(i);
      copy_to_stage(slot(rank_, peer), piece(peer), static_cast<size_t>(length(peer)) * element);
    }
    post();
    wait_for_all(give_up);
    for (int i = 0; i < size_; ++i) pieces_[static_cast<size_t>(i)] = i == rank_ ? piece(i) : slot(i, rank_);
    combine_pieces(dtype, reduce, own + static_cast<size_t>(at) * element, pieces_, length(rank_));
  }
}

void SharedStage::all_gather(std::span<const std::span<std::byte>> blocks, const GiveUp& give_up) {
  size_t longest = 0;
  for (const std::span<std::byte> block : blocks) longest = std::max(longest, block.size());
  for (size_t at = 0; at < longest; at += half_bytes_) {
    const auto piece = [&](int i) {
      const std::span<std::byte> block = blocks[static_cast<size_t>(i)];
      return block.subspan(std::min(at, block.size()),
                           std::min(half_bytes_, block.size() - std::min(at, block.size())));
    };
    begin_turn();
    wait_to_write(give_up);
    copy_to_stage(area(rank_), piece(rank_).data(), piece(rank_).size());
    post();
    for (int i = 1; i < size_; ++i) {
      const int peer = peer_at(i);
      wait_for(peer, give_up);
      copy_bytes(piece(peer).data(), area(peer), piece(peer).size());
    }
  }
}

void SharedStage::broadcast(std::span<std::byte> inout, int root, const GiveUp& give_up) {
  for (size_t at = 0; at < inout.size(); at += half_bytes_) {
    const std::span<std::byte> piece = inout.subspan(at, std::min(half_bytes_, inout.size() - at));
    begin_turn();
    if (rank_ == root) {
      wait_to_write(give_up);
      copy_to_stage(area(root), piece.data(), piece.size());
    }
    post();
    if (rank_ == root) continue;
    wait_for(root, give_up);
    copy_bytes(piece.data(), area(root), piece.size());
  }
}

void SharedStage::barrier(const GiveUp& give_up) {
  begin_turn();
  post();
  wait_for_all(give_up);
}

}  // namespace trident
