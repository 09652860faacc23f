// Warp collectives: how the lanes of a mask meet. warp.h declares what kernels call.
#pragma once

#include "kernels/simt/block.h"
#include "kernels/simt/scheduler.h"

namespace simt {

/// Computes for all lanes of a meeting that is complete, and makes them ready.
void complete(Warp& warp, Meeting& meeting);
/// Reports lanes that stand at different intrinsics, or in strict mode at different places.
void check_same_intrinsic(const Meeting& meeting, Collective kind, const Loc& loc);
/// meet() for a mask that is not full.
void meet_in_part(Collective kind, uint32_t mask, const Loc& loc);

/// Waits until all live lanes of the mask have come to `meeting`.
[[gnu::always_inline]] inline void join(Meeting& meeting, Collective kind, uint32_t mask, const Loc& loc) {
  Fiber& fiber = *blk.cur;
  Warp& warp = *blk.warp;
  if (meeting.present == 0) {
    meeting.mask = mask;
    meeting.kind = kind;
    meeting.loc = loc;
  } else if (meeting.kind != kind || std::memcmp(&meeting.loc, &loc, sizeof loc) != 0) {
    check_same_intrinsic(meeting, kind, loc);
  }
  meeting.present |= 1u << (fiber.thread % 32);
  fiber.loc = loc;
  if (meeting.present == (mask & warp.live)) {
    complete(warp, meeting);
  } else {
    wait_for_turn(fiber);
  }
}

/// Waits until all live lanes of `mask` have come with the same intrinsic; the last one computes for all. What a lane
/// brings lies at its index in its Warp beforehand, what it takes away lies there afterwards.
[[gnu::always_inline]] inline void meet(Collective kind, uint32_t mask, const Loc& loc) {
  if (mask == kFullMask) [[likely]] {
    join(blk.warp->full, kind, mask, loc);
  } else {
    meet_in_part(kind, mask, loc);
  }
}

/// A lane of the warp has exited: completes the meetings that now wait for nobody.
void complete_without(Warp& warp);

/// All lanes of the warp wait or have met: accesses before and after do not belong to one instruction (counters.h).
void end_of_step(const Warp& warp);

}  // namespace simt
