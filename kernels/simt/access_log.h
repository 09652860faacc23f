// From the accesses of single lanes to those of a warp (counters.h says how).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/simt/block.h"

namespace simt {

enum class Space : uint8_t { global, shared };

/// One lane's access. `site` identifies the instruction.
void log_access(Space space, const void* site, unsigned lane, const void* p, size_t bytes, AccessKind access);
/// Counts what the running warp has logged.
void log_end_of_step(const Warp& warp);
/// Forgets what an aborted launch left.
void log_reset();

/// The addresses of one warp access.
struct WarpAccess {
  uint32_t lanes = 0;
  std::array<uintptr_t, 32> address;
};

struct Wavefronts {
  uint64_t needed = 0, ideal = 0;
};
/// What an access of shared memory takes.
Wavefronts wavefronts(const WarpAccess& access, size_t bytes);

struct Sectors {
  uint64_t touched = 0, ideal = 0;
};
/// What an access of global memory moves.
Sectors sectors(const WarpAccess& access, size_t bytes);

}  // namespace simt
