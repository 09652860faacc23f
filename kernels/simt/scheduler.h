// Who runs next. One block at a time; in it one warp runs until all its lanes wait (maximally unfair to the others, so
// that a missing barrier shows), and in the warp one lane runs until it waits.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/simt/block.h"
#include "kernels/simt/fiber.h"

namespace simt {

extern void* scheduler_stack;

/// Gives a fresh fiber its stack.
void start_fiber(Fiber& fiber);

inline Fiber& fiber_of_turn(const Warp& warp, int turn) {
  return blk.fibers[static_cast<size_t>(warp.first + blk.lane_of_turn[static_cast<size_t>(turn)])];
}

inline void make_current(Fiber& fiber) {
  if (fiber.state == State::fresh) [[unlikely]] {
    start_fiber(fiber);
  }
  blk.cur = &fiber;
  builtins.tid = fiber.index;
}

/// Called by a fiber that waits: goes on with the next lane of its warp, or with the scheduler when all wait. Returns
/// when the fiber is woken. Inline, as are the callers: what a switch costs is mostly the saving of registers.
[[gnu::always_inline]] inline void wait_for_turn(Fiber& fiber) {
  Warp& warp = *blk.warp;
  const uint32_t ready = warp.ready & ~(1u << fiber.turn);
  warp.ready = ready;
  if (ready == 0) [[unlikely]] {
    switch_stacks(&fiber.stack_pointer, scheduler_stack);
    return;
  }
  const uint32_t later = ready & ~((2u << fiber.turn) - 1);
  Fiber& next = fiber_of_turn(warp, std::countr_zero(later != 0 ? later : ready));
  make_current(next);
  switch_stacks(&fiber.stack_pointer, next.stack_pointer);
}

/// Makes waiting lanes of a warp ready.
void wake(Warp& warp, uint32_t lanes);

/// Leaves the fiber for good and makes run_grid throw.
[[noreturn]] void abandon_launch();

/// Whether two lanes that meet stand at the same place. Columns count: `a ? f_sync() : f_sync()` is one line.
bool same_line_and_column(const Loc& a, const Loc& b);
inline bool same_place(const Loc& a, const Loc& b) {
  return std::memcmp(&a, &b, sizeof(Loc)) == 0 || same_line_and_column(a, b);
}

}  // namespace simt
