// The inside of the emulator: the block now running, its warps and threads. Kernels never include this.
//
// One grid runs at a time in a process, on whichever thread called run_grid, so the state is global; only what the
// hooks ask on every OS thread (am I inside a kernel?) is thread-local, in `builtins`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/simt/launch.h"
#include "kernels/simt/options.h"
#include "kernels/simt/warp.h"

namespace simt {

/// A started thread runs, is about to, or waits in a collective.
enum class State : uint8_t { fresh, started, at_barrier, done };

/// A cp.async that was issued and not yet waited for.
struct PendingCopy {
  void* shared;
  const void* global;
  int bytes;
  bool valid;
  int group;
};

/// A thread of the block.
struct Fiber {
  void* stack_pointer = nullptr;
  int stack = -1;
  State state = State::fresh;
  uint16_t thread = 0;  // linear index in the block
  uint8_t turn = 0;     // place in the order of its warp's lanes
  uint3 index{};
  Loc loc;  // where it waits
  Barrier barrier = Barrier::sync;
  int predicate = 0, barrier_result = 0;
  int copy_group = 0;
  std::vector<PendingCopy> copies;
};

/// Lanes on their way into one collective.
struct Meeting {
  uint32_t mask = 0, present = 0;
  Collective kind = Collective::sync_warp;
  Loc loc;  // of the first lane to come
};

/// Operands of mma.m16n8k16 as floats, placed by the lanes that bring them; several n tiles may share one a. Columns of
/// a and of the product are 16 neighbours, which the inner loop runs over.
struct MatrixOperands {
  unsigned tiles = 1;
  alignas(64) float a_KM[16][16];
  alignas(64) float b_NK[kMostTiles * 8][16];
  alignas(64) float product_NM[kMostTiles * 8][16];
};

/// What lanes bring to a collective lies at their own index, and what they take away too. A lane can only overwrite the
/// next collective's input, which nobody reads before all lanes have come, so one set of arrays is enough.
struct Warp {
  uint32_t live = 0;   // lanes that have not exited
  uint32_t ready = 0;  // turns, not lanes, that could run
  uint32_t epoch = 0;  // collectives that order memory, since the block began
  int first = 0;       // thread index of lane 0
  std::array<uint64_t, 32> value, result;
  std::array<uint8_t, 32> source;
  std::array<const void*, 32> row;
  std::array<std::array<uint32_t, 4>, 32> words;
  MatrixOperands matrices;
  Meeting full;                  // of the mask of all lanes
  std::vector<Meeting> partial;  // of other masks, while somebody waits
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::array<uint8_t, 32> lane_of_turn{};
  int threads = 0, alive = 0, at_barrier = 0;
  Fiber* cur = nullptr;  // null outside of a kernel
  Warp* warp = nullptr;  // of cur
  uint64_t launch = 0;   // the operation this launch is, set by the emulated runtime; see ops_ordered
  uint64_t block = 0;    // linear index in the grid
  uint32_t epoch = 0;    // barriers passed
  size_t smem = 0;
  const LaunchInfo* info = nullptr;
};
extern Block blk;

inline unsigned current_lane() { return blk.cur->thread % 32u; }

/// The hooks are silent while one of these lives: the emulator is entered from a kernel.
class RuntimeScope {
 public:
  RuntimeScope() : was_(builtins.in_kernel) { builtins.in_kernel = false; }
  ~RuntimeScope() { builtins.in_kernel = was_; }
  RuntimeScope(const RuntimeScope&) = delete;
  RuntimeScope& operator=(const RuntimeScope&) = delete;

 private:
  bool was_;
};

}  // namespace simt
