// The scheduler: grids, blocks, warps, barriers. Compiled without instrumentation.
//
// A lane that waits switches straight to the next ready lane of its warp, so a collective costs one switch a lane; only
// when a warp has no ready lane left, or a lane exits, does control come back to run_warp on the stack of the caller.
#include "kernels/simt/scheduler.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "core/base/error.h"
#include "kernels/simt/collectives.h"
#include "kernels/simt/counting.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/memory_model.h"
#include "kernels/simt/report.h"

namespace simt {

constinit thread_local Builtins builtins;
Options opt;
Block blk;
void* scheduler_stack;

namespace {

using trident::build_string;

bool abandoned;

void fiber_main() {
  builtins.in_kernel = true;
  blk.info->body(blk.info->params.get());
  builtins.in_kernel = false;
  Fiber& fiber = *blk.cur;
  if (opt.strict && !fiber.copies.empty()) {
    fail("cp.async still pending at thread exit (missing wait_group)", nullptr);
  }
  fiber.state = State::done;
  void* never_resumed;
  switch_stacks(&never_resumed, scheduler_stack);
  __builtin_unreachable();
}

void retire(Warp& warp, Fiber& fiber) {
  const uint32_t lane = fiber.thread % 32;
  release_stack(fiber);
  --blk.alive;
  warp.live &= ~(1u << lane);
  warp.ready &= ~(1u << fiber.turn);
  complete_without(warp);
}

void run_warp(Warp& warp) {
  blk.warp = &warp;
  while (warp.ready != 0) {
    make_current(fiber_of_turn(warp, std::countr_zero(warp.ready)));
    builtins.on_fiber = true;
    switch_stacks(&scheduler_stack, blk.cur->stack_pointer);
    builtins.on_fiber = builtins.in_kernel = false;
    if (abandoned) return;
    if (blk.cur->state == State::done) retire(warp, *blk.cur);
  }
  end_of_step(warp);
}

[[noreturn]] void fail_at_barrier(const std::string& what) { throw Error(what + who(nullptr)); }

/// What a warp's lanes, and in strict mode a block's warps, must have in common at a barrier.
void check_barrier(int exited) {
  const Fiber* first = nullptr;
  const Fiber* warp_first = nullptr;
  for (const Fiber& fiber : blk.fibers) {
    if (fiber.state == State::done) continue;
    if (first == nullptr) first = &fiber;
    if (warp_first == nullptr || fiber.thread / 32 != warp_first->thread / 32) warp_first = &fiber;
    if (fiber.barrier != first->barrier) {
      fail_at_barrier(build_string("divergent barrier: different kinds of __syncthreads at ", place_of(first->loc),
                                   " and ", place_of(fiber.loc)));
    }
    if (!same_place(fiber.loc, warp_first->loc)) {
      fail_at_barrier(build_string("divergent barrier: lanes of one warp wait at ", place_of(warp_first->loc), " and ",
                                   place_of(fiber.loc), ", thread ", fiber.thread));
    }
    if (opt.strict && !same_place(fiber.loc, first->loc)) {
      fail_at_barrier(build_string("divergent barrier: warps wait at different places, ", place_of(first->loc), " and ",
                                   place_of(fiber.loc), ", thread ", fiber.thread));
    }
  }
  if (opt.strict && exited > 0) {
    fail_at_barrier(build_string("barrier with ", exited, " exited threads at ", place_of(first->loc)));
  }
}

void release_barrier() {
  check_barrier(blk.threads - blk.alive);
  count_barrier();
  int count = 0;
  for (const Fiber& fiber : blk.fibers) count += fiber.state == State::at_barrier && fiber.predicate != 0;
  for (Fiber& fiber : blk.fibers) {
    if (fiber.state != State::at_barrier) continue;
    fiber.state = State::started;
    fiber.barrier_result = fiber.barrier == Barrier::count ? count
                           : fiber.barrier == Barrier::all ? count == blk.alive
                                                           : count > 0;
    blk.warps[fiber.thread / 32].ready |= 1u << fiber.turn;
  }
  blk.at_barrier = 0;
  ++blk.epoch;
}

[[noreturn]] void report_deadlock() {
  std::map<std::string, int> waiting;
  for (const Fiber& fiber : blk.fibers) {
    const std::string place = place_of(fiber.loc);
    ++waiting[fiber.state == State::done         ? "exited"
              : fiber.state == State::at_barrier ? "__syncthreads " + place
                                                 : "warp intrinsic " + place];
  }
  std::string text = "deadlock:";
  for (const auto& [place, threads] : waiting) text += build_string(" ", threads, " threads: ", place, ";");
  text.back() = ' ';
  text.pop_back();
  fail_at_barrier(text);
}

std::vector<int> make_order(int n, std::mt19937_64& rng) {
  std::vector<int> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (opt.order == Order::Descending) std::reverse(order.begin(), order.end());
  if (opt.order == Order::Random) std::shuffle(order.begin(), order.end(), rng);
  return order;
}

void begin_block(std::mt19937_64& rng) {
  const std::vector<int> lanes = make_order(32, rng);
  std::array<uint8_t, 32> turn_of_lane{};
  for (int turn = 0; turn < 32; ++turn) {
    blk.lane_of_turn[static_cast<size_t>(turn)] = static_cast<uint8_t>(lanes[static_cast<size_t>(turn)]);
    turn_of_lane[static_cast<size_t>(lanes[static_cast<size_t>(turn)])] = static_cast<uint8_t>(turn);
  }
  for (Warp& warp : blk.warps) {
    const int lanes_here = std::min(32, blk.threads - warp.first);
    warp.live = lanes_here == 32 ? kFullMask : (1u << lanes_here) - 1;
    warp.ready = 0;
    warp.epoch = 0;
    warp.full.present = 0;
    warp.partial.clear();
  }
  for (Fiber& fiber : blk.fibers) {
    fiber.state = State::fresh;
    fiber.turn = turn_of_lane[fiber.thread % 32];
    fiber.copies.clear();
    fiber.copy_group = 0;
    blk.warps[fiber.thread / 32].ready |= 1u << fiber.turn;
  }
  blk.alive = blk.threads;
  blk.at_barrier = 0;
  blk.epoch = 0;
  reset_stacks();
  begin_block_memory();
}

void run_block(std::mt19937_64& rng) {
  const std::vector<int> warps = make_order(static_cast<int>(blk.warps.size()), rng);
  begin_block(rng);
  while (blk.alive > 0) {
    bool ran = false;
    for (int index : warps) {
      Warp& warp = blk.warps[static_cast<size_t>(index)];
      if (warp.ready == 0) continue;
      ran = true;
      run_warp(warp);
      if (abandoned) return;
    }
    if (blk.alive == 0) break;
    if (blk.at_barrier == blk.alive) {
      release_barrier();
    } else if (!ran) {
      report_deadlock();
    }
  }
  end_block_memory();
}

void check_launch_limits(const LaunchInfo& info) {
  const auto demand = [&](bool good, const std::string& what) {
    if (!good) throw Error(build_string("launch of ", info.name, ": ", what));
  };
  const dim3 b = info.block, g = info.grid;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  const auto shape = [](dim3 d) { return build_string(d.x, "x", d.y, "x", d.z); };
  demand(threads > 0 && threads <= kMaxThreads && b.z <= 64,
         build_string("bad block size ", shape(b), " (at most 1024 threads, 64 in z)"));
  demand(g.x > 0 && g.y > 0 && g.z > 0, build_string("empty grid ", shape(g), ": skip the launch"));
  demand(g.x <= 2147483647u && g.y <= 65535 && g.z <= 65535,
         build_string("grid too large ", shape(g), " (at most 2147483647 x 65535 x 65535)"));
  demand(info.smem <= shared_limit(opt.architecture),
         build_string("dynamic shared memory of ", info.smem, " bytes is above the limit of ",
                      shared_limit(opt.architecture) / 1024, " KB of sm_", static_cast<int>(opt.architecture)));
  const unsigned bound = launch_bound(info.func);
  demand(bound == 0 || threads <= bound,
         build_string("block of ", threads, " threads is above its __launch_bounds__(", bound, ")"));
}

void begin_grid(const LaunchInfo& info) {
  const dim3 b = info.block;
  blk.threads = static_cast<int>(b.x * b.y * b.z);
  blk.fibers.resize(static_cast<size_t>(blk.threads));
  blk.warps.resize(static_cast<size_t>(blk.threads + 31) / 32);
  for (size_t w = 0; w < blk.warps.size(); ++w) blk.warps[w].first = static_cast<int>(w * 32);
  for (unsigned t = 0; t < static_cast<unsigned>(blk.threads); ++t) {
    blk.fibers[t].thread = static_cast<uint16_t>(t);
    blk.fibers[t].index = {t % b.x, t / b.x % b.y, t / (b.x * b.y)};
  }
  blk.smem = info.smem;
  blk.info = &info;
  builtins.bdim = info.block;
  builtins.gdim = info.grid;
  abandoned = false;
  begin_launch_memory();
}

/// The block that runs k-th. Random is a stride through the grid: a shuffled list of 2^31 blocks would be too long.
uint64_t block_in_order(uint64_t k, uint64_t blocks) {
  constexpr uint64_t kStride = 0x9E3779B1;
  if (opt.order == Order::Descending) return blocks - 1 - k;
  if (opt.order == Order::Random && std::gcd(blocks, kStride) == 1) return (k * kStride + opt.seed) % blocks;
  return k;
}

/// Leaves the emulator outside of any kernel, however run_grid ends.
struct GridScope {
  FaultGuard faults;
  ~GridScope() {
    blk.cur = nullptr;
    blk.info = nullptr;
  }
};

}  // namespace

void start_fiber(Fiber& fiber) {
  prepare_fiber(fiber, fiber_main);
  fiber.state = State::started;
}

void wake(Warp& warp, uint32_t lanes) {
  for (; lanes != 0; lanes &= lanes - 1) {
    warp.ready |= 1u << blk.fibers[static_cast<size_t>(warp.first + std::countr_zero(lanes))].turn;
  }
}

void abandon_launch() {
  abandoned = true;
  void* never_resumed;
  switch_stacks(&never_resumed, scheduler_stack);
  __builtin_unreachable();
}

bool same_line_and_column(const Loc& a, const Loc& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

int sync_block(Barrier kind, int predicate, const Loc& loc) {
  RuntimeScope scope;
  Fiber& fiber = *blk.cur;
  fiber.barrier = kind;
  fiber.predicate = predicate;
  fiber.loc = loc;
  fiber.state = State::at_barrier;
  ++blk.at_barrier;
  wait_for_turn(fiber);
  return fiber.barrier_result;
}

void run_grid(const LaunchInfo& info) {
  check_launch_limits(info);
  GridScope scope;
  begin_grid(info);
  const uint64_t blocks = uint64_t{info.grid.x} * info.grid.y * info.grid.z;
  count_launch(info, blocks);
  std::mt19937_64 rng(opt.seed);
  for (uint64_t k = 0; k < blocks; ++k) {
    const uint64_t b = block_in_order(k, blocks);
    const uint64_t row = b / info.grid.x;
    builtins.bid = {static_cast<unsigned>(b % info.grid.x), static_cast<unsigned>(row % info.grid.y),
                    static_cast<unsigned>(row / info.grid.y)};
    blk.block = b;
    run_block(rng);
    if (abandoned) throw_failure();
  }
  end_launch_memory();
}

}  // namespace simt
