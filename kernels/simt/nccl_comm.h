// Communicators of the emulated NCCL, and what one of its operations says about itself.
//
// One process is one rank with one emulated GPU; messages go over MPI, which must be initialised with
// MPI_THREAD_MULTIPLE (the device thread sends and receives while the host may). MPI is used without blocking calls
// wherever another rank may be late, so that lateness can be told instead of waited for.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/streams.h"

namespace simt {

/// A communicator as its operations hold it; it outlives ncclCommDestroy while one of them is queued.
struct CommState {
  MPI_Comm mpi = MPI_COMM_NULL;  // its ranks are the communicator's
  int rank = 0, size = 1, device = 0;
  std::vector<int> world;    // rank -> rank in MPI_COMM_WORLD, for messages
  uint64_t collectives = 0;  // issued: the next one's number
  MarkPtr last;              // after the operation issued last
  cudaStream_t last_stream = nullptr;
  std::atomic<bool> aborted{false};  // operations end at once, without effect
  std::atomic<int> async_error{ncclSuccess};
};
using CommPtr = std::shared_ptr<CommState>;

enum class NcclKind : int { all_reduce, reduce_scatter, all_gather, broadcast, reduce, send, recv };

/// What the members of an operation must agree on. Plain data: it travels.
struct Signature {
  uint64_t number;  // of the collective in its communicator
  NcclKind kind;
  int root;  // or peer, of a message
  uint64_t count;
  ncclDataType_t type;
  ncclRedOp_t op;
};
bool agree(const Signature& a, const Signature& b);
/// "ncclAllReduce number 12 (count 100, ncclFloat32, ncclSum)".
std::string describe(const Signature&);
const char* kind_name(NcclKind);

/// Bytes of an element; 0 for a type the emulation does not know.
size_t type_bytes(ncclDataType_t);

/// "rank 1 of 4 (2 in the world)".
std::string rank_name(const CommState&, int rank);

/// Notes the text that ncclGetLastError gives; returns `result`.
ncclResult_t nccl_failed(ncclResult_t result, const std::string& why);

/// Seconds that an operation may wait for other ranks.
double nccl_timeout();

}  // namespace simt

struct ncclComm {
  simt::CommPtr state;
};
