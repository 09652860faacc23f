#include "core/run/threads.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/base/error.h"

namespace trident {
namespace {

bool user_binds() {
  // The last two: Open MPI 4's mpirun --bind-to sets its own, Open MPI 5 reads a default from the other.
  for (const char* name : {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "OMPI_MCA_hwloc_base_binding_policy",
                           "PRTE_MCA_hwloc_default_binding_policy"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) cores.push_back(i);
  }
  return cores;
}

void bind_to(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  // Refused (a container's rule): the mask stays as it was, which is only slower.
  (void)sched_setaffinity(0, sizeof set, &set);
}

std::vector<int> all_cores() {
  std::vector<int> cores(static_cast<size_t>(std::max(1L, sysconf(_SC_NPROCESSORS_CONF))));
  for (size_t i = 0; i < cores.size(); ++i) cores[i] = static_cast<int>(i);
  return cores;
}

}  // namespace

std::string place_threads(int local_rank, int local_size) {
  if (!user_binds()) {
    // Asking for every core yields what the cgroup allows, whatever mask the launcher set.
    bind_to(all_cores());
    const std::vector<int> cores = allowed_cores();
    const size_t share = cores.size() / static_cast<size_t>(local_size);
    if (share >= 1) {
      const auto first = cores.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(local_rank) * share);
      bind_to({first, first + static_cast<std::ptrdiff_t>(share)});
    }
  }
  const std::vector<int> cores = allowed_cores();
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    const bool shared = user_binds() || static_cast<int>(cores.size()) < local_size;
    omp_set_num_threads(
        std::max(1, shared ? static_cast<int>(cores.size()) / local_size : static_cast<int>(cores.size())));
  }
  const int threads = omp_get_max_threads();
  return build_string(threads, threads == 1 ? " thread" : " threads", " per rank, ", cores.size(),
                      cores.size() == 1 ? " core" : " cores");
}

}  // namespace trident
