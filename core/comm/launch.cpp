#include "core/comm/launch.h"

#include <cstdlib>

#include "core/base/error.h"

namespace trident {
namespace {

int number_or_zero(const char* text) { return text == nullptr ? 0 : std::atoi(text); }

std::string alone(const char* starter, const char* variable, int ranks, const char* fix) {
  return build_string(starter, " started ", ranks, " processes (", variable, "=", ranks,
                      ") but MPI tells this one that it is alone: ", ranks, " runs of one rank each would follow. ",
                      fix);
}

}  // namespace

std::string launch_problem(int mpi_size, const Environment& environment) {
  if (mpi_size != 1) return {};
  if (environment("OMPI_COMM_WORLD_SIZE") != nullptr) {
    const int ranks = number_or_zero(environment("OMPI_COMM_WORLD_SIZE"));
    if (ranks <= 1) return {};
    return alone("Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", ranks,
                 "Use the mpirun of the Open MPI that this binary is linked with (`ldd trident | grep libmpi`).");
  }
  if (environment("PMI_SIZE") != nullptr) {
    const int ranks = number_or_zero(environment("PMI_SIZE"));
    if (ranks <= 1) return {};
    return alone("An mpirun that speaks PMI (MPICH, Intel MPI) or srun --mpi=pmi2", "PMI_SIZE", ranks,
                 "Trident is linked with Open MPI: start it with Open MPI's mpirun or srun --mpi=pmix.");
  }
  // srun sets the step's size for its tasks; SLURM_NTASKS alone is also there in a plain sbatch script.
  const int ranks = number_or_zero(environment("SLURM_STEP_NUM_TASKS"));
  if (ranks > 1 && environment("SLURM_STEP_ID") != nullptr) {
    return alone("srun", "SLURM_STEP_NUM_TASKS", ranks, "Start it with srun --mpi=pmix or with mpirun inside sbatch.");
  }
  return {};
}

}  // namespace trident
