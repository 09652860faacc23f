// The counters of all kernels. Compiled without instrumentation.
#include "kernels/simt/counters.h"

#include <algorithm>
#include <unordered_map>

#include "kernels/simt/access_log.h"
#include "kernels/simt/counting.h"

namespace simt {
namespace {

std::unordered_map<const void*, Counters> by_kernel;  // references stay valid while it grows

}  // namespace

Counters* counting = nullptr;

void count_launch(const LaunchInfo& info, uint64_t blocks) {
  log_reset();
  counting = &by_kernel[info.func];
  const unsigned threads = info.block.x * info.block.y * info.block.z;
  ++counting->launches;
  counting->blocks += blocks;
  counting->threads += blocks * threads;
  counting->largest_block = std::max(counting->largest_block, threads);
  counting->dynamic_shared = std::max(counting->dynamic_shared, info.smem);
}

void count_ldmatrix(const std::array<const void*, 32>& rows) {
  ++counting->ldmatrix;
  if (!checked || !opt.count_accesses) return;
  WarpAccess access;
  access.lanes = kFullMask;
  for (size_t lane = 0; lane < 32; ++lane) access.address[lane] = reinterpret_cast<uintptr_t>(rows[lane]);
  const Wavefronts w = wavefronts(access, 16);
  ++counting->ldmatrix_rows.accesses;
  counting->ldmatrix_rows.wavefronts += w.needed;
  counting->ldmatrix_rows.ideal_wavefronts += w.ideal;
}

void count_static_shared(size_t bytes) { counting->static_shared = std::max(counting->static_shared, bytes); }

std::map<std::string, Counters> counters() {
  std::map<std::string, Counters> result;
  for (const auto& [func, counted] : by_kernel) result[kernel_name(func)] = counted;
  return result;
}

void reset_counters() { by_kernel.clear(); }

}  // namespace simt
