// SharedSegment: memory that all members of a group on one host have mapped.
//
// Policy: an anonymous file (memfd) of the group's first rank, which the others open through /proc. No name that could
// outlive the job, and no limit of /dev/shm, which containers make small. Pages exist from their first use on. Where
// the members cannot all map it (a container per rank, say), none does.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <string>

namespace trident {

class SharedSegment {
 public:
  SharedSegment() = default;
  /// Takes a mapping over.
  SharedSegment(void* data, size_t bytes) : data_(static_cast<std::byte*>(data), {bytes}) {}

  /// Zeros at first; page-aligned; nullptr when there is none.
  std::byte* data() const { return data_.get(); }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Unmap> data_{nullptr, {0}};
};

/// Whether all members are on one host, as MPI sees it. Collective.
bool on_one_host(MPI_Comm);

/// Of `bytes` bytes, on all members, or on none. Collective; `comm` is on one host. `problem`, on the lowest rank that
/// could not: what failed there; empty elsewhere. `willing` false: this rank does not want to, without a problem.
SharedSegment make_shared_segment(MPI_Comm comm, size_t bytes, bool willing, std::string& problem);

}  // namespace trident
