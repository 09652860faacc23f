// MPI's life in this process: initialised when made, finalised when destroyed.
#pragma once

#include <span>
#include <string>

namespace trident {

class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int ranks() const;
  int rank() const;
  /// The lowest rank that says true, -1 when none does. Collective.
  int lowest_rank(bool mine) const;
  /// MPI's own MPI_Allreduce, in place, to measure ours against.
  void all_reduce(std::span<float> inout) const;
};

/// "Open MPI v4.1.4, ...": name and version of the MPI library. Needs no session.
std::string mpi_library();

}  // namespace trident
