#include "core/comm/mpi_session.h"

#include <mpi.h>

#include "core/comm/mpi_wait.h"

namespace trident {

MpiSession::MpiSession() {
  int provided = 0;
  // make_mpi_world checks the level that was provided.
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
}

MpiSession::~MpiSession() { MPI_Finalize(); }

int MpiSession::ranks() const {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

int MpiSession::rank() const {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int MpiSession::lowest_rank(bool mine) const {
  const int nobody = ranks();
  int lowest = mine ? rank() : nobody;
  MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return lowest == nobody ? -1 : lowest;
}

void MpiSession::all_reduce(std::span<float> inout) const {
  check_mpi(
      MPI_Allreduce(MPI_IN_PLACE, inout.data(), static_cast<int>(inout.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
      "MPI_Allreduce");
}

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string all(text, static_cast<size_t>(length));
  return all.substr(0, all.find(','));
}

}  // namespace trident
