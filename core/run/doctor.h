// Doctor: looks at the machine as a run would meet it, and says what is wrong and how to put it right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trident {

/// One thing looked at.
struct Finding {
  enum class State : uint8_t {
    good,
    note,    ///< works, but could be better or is worth knowing
    problem  ///< a run that needs it fails
  };
  State state = State::good;
  std::string topic;  ///< "MPI", "GPU 0", "Slurm"
  std::string found;  ///< what was seen
  std::string fix;    ///< what to do; empty when all is well
};

/// Looks at processor, memory, MPI, CUDA, network, Slurm and limits. Needs no MPI job; quick; changes nothing.
std::vector<Finding> examine_machine();

/// The CUDA part: driver, GPUs, peer access, libraries, as linked into this binary.
std::vector<Finding> examine_cuda();

/// One aligned line each, problems with their fix beneath.
std::string describe(const std::vector<Finding>&);

}  // namespace trident
