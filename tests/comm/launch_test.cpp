#include "core/comm/launch.h"

#include <map>

#include "support/catch.h"

using namespace trident;

namespace {

std::string problem(int mpi_size, const std::map<std::string, std::string>& variables) {
  return launch_problem(mpi_size, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a proper start is no problem", "[ranks=1]") {
  CHECK(problem(1, {}).empty());
  CHECK(problem(8, {{"OMPI_COMM_WORLD_SIZE", "8"}}).empty());
  CHECK(problem(1, {{"OMPI_COMM_WORLD_SIZE", "1"}}).empty());
  CHECK(problem(4, {{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_ID", "0"}}).empty());
}

TEST_CASE("a plain start inside sbatch is a run of one rank", "[ranks=1]") {
  CHECK(problem(1, {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}).empty());
  // mpirun -n 1 in an allocation of two nodes: its daemons are a Slurm step of two tasks.
  CHECK(problem(1, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_ID", "0"}}).empty());
}

TEST_CASE("processes that each believe they are alone are told how to start", "[ranks=1]") {
  const std::string mpirun = problem(1, {{"OMPI_COMM_WORLD_SIZE", "8"}});
  INFO(mpirun);
  CHECK(mentions(mpirun, "OMPI_COMM_WORLD_SIZE=8"));
  CHECK(mentions(mpirun, "Use the mpirun of the Open MPI that this binary is linked with"));
  const std::string other = problem(1, {{"PMI_SIZE", "4"}});
  INFO(other);
  CHECK(mentions(other, "PMI_SIZE=4"));
  CHECK(mentions(other, "srun --mpi=pmix"));
  const std::string srun = problem(1, {{"SLURM_STEP_NUM_TASKS", "3"}, {"SLURM_STEP_ID", "0"}});
  INFO(srun);
  CHECK(mentions(srun, "srun started 3 processes"));
  CHECK(mentions(srun, "srun --mpi=pmix"));
}
