// Shuffles, votes and __syncwarp. Compiled without instrumentation.
#include "kernels/simt/collectives.h"

#include <bit>

#include "core/base/error.h"
#include "kernels/simt/access_log.h"
#include "kernels/simt/report.h"
#include "kernels/simt/scheduler.h"
#include "kernels/simt/tensor_core.h"

namespace simt {
namespace {

using trident::build_string;

void finish_vote(Warp& warp, uint32_t present) {
  uint64_t ballot = 0;
  for (uint32_t lanes = present; lanes != 0; lanes &= lanes - 1) {
    const size_t lane = static_cast<size_t>(std::countr_zero(lanes));
    ballot |= warp.value[lane] << lane;
  }
  for (uint32_t lanes = present; lanes != 0; lanes &= lanes - 1) {
    warp.result[static_cast<size_t>(std::countr_zero(lanes))] = ballot;
  }
}

void finish_shuffle(Warp& warp, const Meeting& meeting) {
  if (meeting.present == kFullMask) {
    for (size_t lane = 0; lane < 32; ++lane) warp.result[lane] = warp.value[warp.source[lane]];
    return;
  }
  for (uint32_t lanes = meeting.present; lanes != 0; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    const int source = warp.source[static_cast<size_t>(lane)];
    if ((meeting.present >> source & 1) == 0) {
      fail(build_string("shuffle reads from inactive lane ", source), &meeting.loc, nullptr,
           &blk.fibers[static_cast<size_t>(warp.first + lane)]);
    }
    warp.result[static_cast<size_t>(lane)] = warp.value[static_cast<size_t>(source)];
  }
}

Meeting& meeting_of(Warp& warp, uint32_t mask) {
  for (Meeting& meeting : warp.partial) {
    if (meeting.mask == mask) return meeting;
  }
  return warp.partial.emplace_back();
}

void drop_finished(Warp& warp) {
  std::erase_if(warp.partial, [](const Meeting& meeting) { return meeting.present == 0; });
}

}  // namespace

void complete(Warp& warp, Meeting& meeting) {
  if (meeting.kind >= Collective::ldmatrix && meeting.present != kFullMask) {
    fail(build_string(meeting.kind >= Collective::mma_bf16 ? "mma.sync" : "ldmatrix", " with inactive lanes"),
         meeting.loc);
  }
  switch (meeting.kind) {
    case Collective::sync_warp: ++warp.epoch; break;
    case Collective::ballot:
    case Collective::any:
    case Collective::all: finish_vote(warp, meeting.present); break;
    case Collective::shuffle:
    case Collective::shuffle_xor:
    case Collective::shuffle_down:
    case Collective::shuffle_up: finish_shuffle(warp, meeting); break;
    case Collective::ldmatrix:
    case Collective::ldmatrix_trans: finish_ldmatrix(warp, meeting); break;
    case Collective::mma_bf16:
    case Collective::mma_f16: finish_mma(warp); break;
  }
  const uint32_t present = meeting.present;
  meeting.present = 0;
  if (present == warp.live) {
    end_of_step(warp);
    if (present == kFullMask) {  // every lane of a full warp waited here
      warp.ready = kFullMask;
      return;
    }
  }
  wake(warp, present);
}

void check_same_intrinsic(const Meeting& meeting, Collective kind, const Loc& loc) {
  if (meeting.kind != kind) {
    fail(build_string("divergent warp intrinsics: another lane of the mask waits in a different one (",
                      place_of(meeting.loc), ")"),
         loc);
  }
  if (opt.strict && !same_place(meeting.loc, loc)) {
    fail(build_string("divergent warp intrinsic: lanes of one warp meet at different places (", place_of(meeting.loc),
                      ")"),
         loc);
  }
}

void meet_in_part(Collective kind, uint32_t mask, const Loc& loc) {
  if ((mask >> current_lane() & 1) == 0) fail("warp intrinsic: calling lane not in its own mask", loc);
  Warp& warp = *blk.warp;
  join(meeting_of(warp, mask), kind, mask, loc);
  drop_finished(warp);
}

void complete_without(Warp& warp) {
  const auto complete_if_due = [&](Meeting& meeting) {
    if (meeting.present == 0 || meeting.present != (meeting.mask & warp.live)) return;
    blk.cur = &blk.fibers[static_cast<size_t>(warp.first + std::countr_zero(meeting.present))];
    complete(warp, meeting);
  };
  complete_if_due(warp.full);
  if (warp.partial.empty()) return;
  for (Meeting& meeting : warp.partial) complete_if_due(meeting);
  drop_finished(warp);
}

void end_of_step(const Warp& warp) {
  if (checked) log_end_of_step(warp);
}

unsigned lane_id() { return current_lane(); }

void sync_warp(uint32_t mask, const Loc& loc) {
  RuntimeScope scope;
  meet(Collective::sync_warp, mask, loc);
}

uint32_t vote(Collective kind, uint32_t mask, bool predicate, const Loc& loc) {
  RuntimeScope scope;
  const size_t lane = current_lane();
  Warp& warp = *blk.warp;
  warp.value[lane] = predicate;
  meet(kind, mask, loc);
  return static_cast<uint32_t>(warp.result[lane]);
}

uint64_t exchange(Collective kind, uint32_t mask, uint64_t bits, int source, const Loc& loc) {
  RuntimeScope scope;
  const size_t lane = current_lane();
  Warp& warp = *blk.warp;
  warp.value[lane] = bits;
  warp.source[lane] = static_cast<uint8_t>(source & 31);
  meet(kind, mask, loc);
  return warp.result[lane];
}

}  // namespace simt
