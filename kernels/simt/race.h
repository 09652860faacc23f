// Race tags: who touched a byte last, in one word.
//
//   global memory   operation 18 | block 16 | epoch 10 | warp epoch 8 | atomic 1 | thread 11
//   shared memory                     epoch + 1  44    | warp epoch 8 | atomic 1 | thread 11
//
// An epoch is the number of barriers passed, a warp epoch of __syncwarps. A cell keeps one tag for the last write and
// one for the last reads; 0 means untouched. Two accesses race when one writes, not both are atomic, they belong to
// different threads, and nothing orders them: no barrier of the block, no __syncwarp of a common warp, for two
// operations no stream or event (ops_ordered). Blocks of one grid are never ordered. Fields wrap: after 1024 barriers
// or 256 __syncwarps without a barrier an old access may be taken for a recent one.
#pragma once

#include <cstdint>

#include "kernels/simt/block.h"

namespace simt {

using RaceTag = uint64_t;

constexpr RaceTag kAtomicBit = 0x800;
constexpr uint32_t kSeveralWarps = 1024;  // as thread: readers of different warps
constexpr uint32_t kSeveralLanes = 1025;  // + warp: several lanes of that warp
constexpr int kEpochShift = 20, kBlockShift = 30, kOperationShift = 46;
constexpr uint64_t kOperations = uint64_t{1} << (64 - kOperationShift);

inline RaceTag thread_tag(const Fiber& fiber, bool atomic) {
  const uint32_t warp_epoch = blk.warps[fiber.thread / 32].epoch & 0xff;
  return uint64_t{warp_epoch} << 12 | (atomic ? kAtomicBit : 0) | fiber.thread;
}
inline RaceTag shared_tag(const Fiber& fiber, bool atomic) {
  return (uint64_t{blk.epoch} + 1) << kEpochShift | thread_tag(fiber, atomic);
}
/// `operation` counts from 1 within the window of operations that the heap remembers.
inline RaceTag global_tag(uint64_t operation, const Fiber& fiber, bool atomic) {
  return operation << kOperationShift | (blk.block & 0xffff) << kBlockShift |
         uint64_t{blk.epoch & 0x3ff} << kEpochShift | thread_tag(fiber, atomic);
}

inline uint32_t tag_thread(RaceTag tag) { return static_cast<uint32_t>(tag & 0x7ff); }
inline uint32_t tag_warp(RaceTag tag) {
  const uint32_t thread = tag_thread(tag);
  return thread >= kSeveralLanes ? thread - kSeveralLanes : thread / 32;  // kSeveralWarps: 32, equal to no warp
}
inline bool both_atomic(RaceTag a, RaceTag b) { return (a & b & kAtomicBit) != 0; }

/// Whether two accesses of one block (of one launch) race. The kinds of access are the caller's business.
inline bool threads_race(RaceTag before, RaceTag now) {
  if (before == 0 || both_atomic(before, now) || before >> kEpochShift != now >> kEpochShift) return false;
  if (tag_thread(before) == tag_thread(now)) return false;
  const bool ordered_by_warp = tag_warp(before) == tag_warp(now) && ((before ^ now) >> 12 & 0xff) != 0;
  return !ordered_by_warp;
}

/// Adds a read to the tag of last reads.
inline void note_read(RaceTag& reads, RaceTag now) {
  const bool same_epoch = reads != 0 && reads >> kEpochShift == now >> kEpochShift;
  if (same_epoch && tag_thread(reads) != tag_thread(now)) {
    if (tag_warp(reads) != tag_warp(now)) {
      now = (now & ~RaceTag{0x7ff}) | kSeveralWarps;
    } else if (((reads ^ now) >> 12 & 0xff) == 0) {
      now = (now & ~RaceTag{0x7ff}) | (kSeveralLanes + tag_warp(now));
    }
  }
  reads = now;
}

}  // namespace simt
