// How the emulator runs kernels: the order of lanes, warps and blocks, and the card it stands for.
//
// Read at every launch; change them between launches only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

/// In which order the lanes of a warp, the warps of a block and the blocks of a grid take their turns.
enum class Order { Ascending, Descending, Random };

/// The compute capability whose limits a launch must keep.
enum class Architecture { sm_80 = 80, sm_90 = 90 };

struct Options {
  Order order = Order::Ascending;
  uint64_t seed = 1;  // of Order::Random
  /// Also report what hardware tolerates but our kernels must not do: a barrier that exited threads miss, lanes of a
  /// warp or warps of a block that meet at different source lines, a cp.async left pending at exit.
  bool strict = true;
  Architecture architecture = Architecture::sm_80;
  /// Checked mode only: count sectors, bank conflicts and unique bytes (counters.h).
  bool count_accesses = true;
};
extern Options opt;

/// Shared memory that one block may have at most, static and dynamic together.
constexpr size_t shared_limit(Architecture architecture) {
  return (architecture == Architecture::sm_80 ? size_t{163} : size_t{227}) * 1024;
}

}  // namespace simt
