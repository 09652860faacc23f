// Where the emulator adds to the counters of the running kernel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/simt/block.h"
#include "kernels/simt/counters.h"

namespace simt {

/// Makes a kernel the one that is counted.
void count_launch(const LaunchInfo& info, uint64_t blocks);
/// The running kernel's.
extern Counters* counting;

inline void count_mma(unsigned tiles) { counting->mma += tiles; }
inline void count_async_copy() { ++counting->async_copies; }
inline void count_barrier() { ++counting->barriers; }
/// `rows`: the addresses that the 32 lanes name.
void count_ldmatrix(const std::array<const void*, 32>& rows);
/// Bytes that the launch touches for the first time.
inline void count_unique(AccessKind access, uint64_t bytes) {
  (access == AccessKind::read ? counting->loads : counting->stores).unique_bytes += bytes;
}
void count_static_shared(size_t bytes);

}  // namespace simt
