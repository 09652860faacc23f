// Threads and cores of a rank, chosen when the user has not.
#pragma once

#include <string>

namespace trident {

/// Gives this rank its share of the node's cores: an equal slice of the allowed ones, or all of them when there are
/// more ranks than cores (mpirun's default would put a rank and all its threads on one core). OMP_NUM_THREADS wins when
/// set; OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY or an Open MPI binding policy in the environment leave the mask
/// alone. Returns what was done, for the log: "2 threads on cores 0-1".
std::string place_threads(int local_rank, int local_size);

}  // namespace trident
