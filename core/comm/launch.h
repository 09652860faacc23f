// How the process was started, judged from the environment: the mistake of N processes that each believe they are
// alone.
#pragma once

#include <functional>
#include <string>

namespace trident {

/// Looks up an environment variable; nullptr when unset.
using Environment = std::function<const char*(const char*)>;

/// What is wrong with the start, and how to start properly; empty when nothing is. `mpi_size` is what MPI says. The
/// launcher nearest to the process decides: inside an sbatch script Slurm's variables describe the allocation or the
/// daemons' step, and only a process that srun itself started may believe them.
std::string launch_problem(int mpi_size, const Environment& environment);

}  // namespace trident
