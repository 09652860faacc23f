// What the tests of the emulated NCCL share: communicators, streams and device buffers.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <cstring>

#include "core/base/dtype.h"
#include "simt/runtime.h"

namespace trident::testing {

inline void ok(ncclResult_t result) {
  if (result != ncclSuccess) throw RunError(build_string(ncclGetErrorString(result), ": ", ncclGetLastError(nullptr)));
}

inline int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

inline int world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

/// A communicator over the ranks of the world whose `color` is the same, in world order; made by a common id.
class Group {
 public:
  explicit Group(int color = 0) {
    MPI_Comm members;
    MPI_Comm_split(MPI_COMM_WORLD, color, world_rank(), &members);
    MPI_Comm_rank(members, &rank);
    MPI_Comm_size(members, &size);
    ncclUniqueId id{};
    if (rank == 0) ok(ncclGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, members);
    MPI_Comm_free(&members);
    ok(ncclCommInitRank(&comm, size, id, rank));
  }
  ~Group() {
    if (comm != nullptr) (void)ncclCommDestroy(comm);
  }
  Group(const Group&) = delete;
  void abort() {
    (void)ncclCommAbort(comm);
    comm = nullptr;
  }

  ncclComm_t comm = nullptr;
  int rank = 0, size = 1;
};

class OwnStream {
 public:
  OwnStream() { ok(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~OwnStream() {
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamDestroy(stream_);
  }
  OwnStream(const OwnStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const { ok(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Device memory with values of T, uploaded and downloaded at once.
template <class T>
class Values {
 public:
  explicit Values(size_t count, T value = T{}) : Values(std::vector<T>(count, value)) {}
  explicit Values(const std::vector<T>& values) : count_(values.size()) {
    ok(cudaMalloc(&data_, count_ * sizeof(T) + 1));
    ok(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Values() {
    (void)cudaDeviceSynchronize();
    (void)cudaFree(data_);
  }
  Values(const Values&) = delete;

  T* at(size_t i = 0) const { return static_cast<T*>(data_) + i; }
  std::vector<T> get() const {
    std::vector<T> values(count_);
    ok(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t count_;
  void* data_ = nullptr;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

/// Reports must come on every rank of the world alike: the barrier keeps a rank from running ahead.
inline void barrier() { MPI_Barrier(MPI_COMM_WORLD); }

}  // namespace trident::testing
