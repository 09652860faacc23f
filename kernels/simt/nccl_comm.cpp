// Making and ending communicators. The members of a new one meet at the rank that made its id, by messages on
// MPI_COMM_WORLD under a tag of their own; nobody else takes part.
#include "kernels/simt/nccl_comm.h"

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>

#include "core/base/error.h"

namespace simt {
namespace {

using trident::build_string;

thread_local std::string t_last_error;
std::atomic<int> g_next_id{1};

/// The contents of an ncclUniqueId.
struct Id {
  uint64_t magic;
  int creator;  // rank in the world
  int number;   // of the creator's ids
};
constexpr uint64_t kMagic = 0x53494d544e43434c;
constexpr int kFirstTag = 20'000, kTags = 10'000;

struct Entry {
  int rank, size, world;
};

/// Tests until all requests are over. On a stall the missing receives are cancelled, and false returned.
bool complete(std::vector<MPI_Request>& requests) {
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    int done = 0;
    MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
    if (done) return true;
    if (std::chrono::steady_clock::now() - begin > std::chrono::duration<double>(nccl_timeout())) break;
    usleep(50);
  }
  for (MPI_Request& r : requests) {
    if (r == MPI_REQUEST_NULL) continue;
    MPI_Cancel(&r);
    MPI_Request_free(&r);
  }
  return false;
}

/// The creator's side: every member's world rank, or an empty table when they do not fit together.
std::vector<int> gather_members(const Id& id, const Entry& mine, int tag) {
  const int n = mine.size;
  std::vector<Entry> entries(n, Entry{-1, 0, -1});
  entries[0] = mine;
  std::vector<MPI_Request> requests(n - 1);
  for (int i = 1; i < n; ++i) {
    MPI_Irecv(&entries[i], sizeof(Entry), MPI_BYTE, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &requests[i - 1]);
  }
  if (!complete(requests)) {
    std::string came;
    for (const Entry& e : entries) came += e.size == 0 ? "" : build_string(" ", e.rank);
    report(ReportKind::nccl_stall, build_string("ncclCommInitRank of ", n, " ranks, id ", id.creator, ".", id.number,
                                                ": only these ranks came:", came));
    return {};
  }
  std::vector<int> world(n, -1);
  std::string wrong;
  for (const Entry& e : entries) {
    if (e.size != n) wrong = build_string("world rank ", e.world, " says ", e.size, " ranks, another ", n);
    if (e.rank < 0 || e.rank >= n || world[e.rank] >= 0) {
      wrong = build_string("rank ", e.rank, " is taken or outside of ", n);
    } else {
      world[e.rank] = e.world;
    }
  }
  const int tables = static_cast<int>(entries.size());
  if (!wrong.empty()) {
    report(ReportKind::nccl_mismatch, "ncclCommInitRank: " + wrong);
    world[0] = -1;
  }
  for (int i = 1; i < tables; ++i) {
    MPI_Request request;
    MPI_Isend(world.data(), n, MPI_INT, entries[i].world, tag + 1, MPI_COMM_WORLD, &request);
    std::vector<MPI_Request> one{request};
    (void)complete(one);
  }
  return wrong.empty() ? world : std::vector<int>();
}

/// Another member's side.
std::vector<int> ask_creator(const Id& id, const Entry& mine, int tag) {
  std::vector<int> world(mine.size, -1);
  std::vector<MPI_Request> requests(2);
  MPI_Irecv(world.data(), mine.size, MPI_INT, id.creator, tag + 1, MPI_COMM_WORLD, &requests[0]);
  MPI_Isend(&mine, sizeof mine, MPI_BYTE, id.creator, tag, MPI_COMM_WORLD, &requests[1]);
  if (!complete(requests)) {
    report(ReportKind::nccl_stall, build_string("ncclCommInitRank: rank ", mine.rank, " of ", mine.size,
                                                " got no answer from the id's maker, world rank ", id.creator));
    return {};
  }
  return world[0] < 0 ? std::vector<int>() : world;
}

std::string mpi_problem() {
  int initialized = 0, finalized = 0, level = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (!initialized || finalized) return "the emulated NCCL needs MPI, which is not initialised";
  MPI_Query_thread(&level);
  return level == MPI_THREAD_MULTIPLE ? "" : "the emulated NCCL needs MPI_Init_thread with MPI_THREAD_MULTIPLE";
}

ncclResult_t init_rank(ncclComm_t* comm, int size, const ncclUniqueId& unique, int rank) {
  if (const int injected = injected_error("ncclCommInitRank")) {
    return nccl_failed(static_cast<ncclResult_t>(injected), "injected");
  }
  if (const std::string problem = mpi_problem(); !problem.empty()) return nccl_failed(ncclSystemError, problem);
  Id id{};
  std::memcpy(&id, unique.internal, sizeof id);
  if (comm == nullptr || size < 1 || rank < 0 || rank >= size || id.magic != kMagic) {
    return nccl_failed(ncclInvalidArgument, build_string("ncclCommInitRank: rank ", rank, " of ", size,
                                                         id.magic == kMagic ? "" : ", and not an id"));
  }
  auto state = std::make_shared<CommState>();
  state->rank = rank;
  state->size = size;
  if (cudaGetDevice(&state->device) != cudaSuccess) return nccl_failed(ncclUnhandledCudaError, "cudaGetDevice failed");
  Entry mine{rank, size, 0};
  MPI_Comm_rank(MPI_COMM_WORLD, &mine.world);
  const int tag = kFirstTag + id.number * 2 % kTags;
  state->world = mine.world == id.creator ? gather_members(id, mine, tag) : ask_creator(id, mine, tag);
  if (state->world.empty()) return nccl_failed(ncclSystemError, "ncclCommInitRank: the members did not come together");
  MPI_Group everyone, members;
  MPI_Comm_group(MPI_COMM_WORLD, &everyone);
  MPI_Group_incl(everyone, size, state->world.data(), &members);
  MPI_Comm_create_group(MPI_COMM_WORLD, members, tag, &state->mpi);
  MPI_Group_free(&members);
  MPI_Group_free(&everyone);
  *comm = new ncclComm{state};
  return ncclSuccess;
}

/// As `init_rank`'s checks, for calls on a communicator.
ncclResult_t with_comm(const char* name, ncclComm_t comm, const std::function<ncclResult_t(CommState&)>& body) {
  if (const int injected = injected_error(name)) return nccl_failed(static_cast<ncclResult_t>(injected), "injected");
  if (comm == nullptr) return nccl_failed(ncclInvalidArgument, build_string(name, ": no communicator"));
  return body(*comm->state);
}

ncclResult_t finish(CommState& c) {
  if (c.last && !c.aborted && wait_for(c.last) != cudaSuccess) {
    return nccl_failed(ncclUnhandledCudaError, "the device is in error");
  }
  return ncclSuccess;
}

}  // namespace

ncclResult_t nccl_failed(ncclResult_t result, const std::string& why) {
  t_last_error = why;
  return result;
}

double nccl_timeout() { return settings().nccl_timeout_seconds; }

std::string rank_name(const CommState& c, int rank) {
  return build_string("rank ", rank, " of ", c.size, " (", c.world[rank], " in the world)");
}

}  // namespace simt

using namespace simt;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  if (version == nullptr) return ncclInvalidArgument;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* out) {
  if (const int injected = injected_error("ncclGetUniqueId")) {
    return nccl_failed(static_cast<ncclResult_t>(injected), "injected");
  }
  if (const std::string problem = mpi_problem(); !problem.empty()) return nccl_failed(ncclSystemError, problem);
  if (out == nullptr) return nccl_failed(ncclInvalidArgument, "ncclGetUniqueId: no place for the id");
  Id id{kMagic, 0, g_next_id++};
  MPI_Comm_rank(MPI_COMM_WORLD, &id.creator);
  *out = {};
  std::memcpy(out->internal, &id, sizeof id);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  return init_rank(comm, size, id, rank);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t*) {
  return init_rank(comm, size, id, rank);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* out, ncclConfig_t*) {
  return with_comm("ncclCommSplit", comm, [&](CommState& c) {
    auto state = std::make_shared<CommState>();
    state->device = c.device;
    MPI_Comm_split(c.mpi, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key, &state->mpi);
    *out = nullptr;
    if (state->mpi == MPI_COMM_NULL) return ncclSuccess;
    MPI_Comm_rank(state->mpi, &state->rank);
    MPI_Comm_size(state->mpi, &state->size);
    state->world.resize(state->size);
    const int world = c.world[c.rank];
    MPI_Allgather(&world, 1, MPI_INT, state->world.data(), 1, MPI_INT, state->mpi);
    *out = new ncclComm{state};
    return ncclSuccess;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) { return with_comm("ncclCommFinalize", comm, finish); }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  return with_comm("ncclCommDestroy", comm, [&](CommState& c) {
    const ncclResult_t result = finish(c);
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized && !c.aborted && result == ncclSuccess) MPI_Comm_free(&c.mpi);
    delete comm;
    return result;
  });
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  return with_comm("ncclCommAbort", comm, [&](CommState& c) {
    c.aborted = true;  // what is queued or running ends at its next poll; the MPI communicator is left to MPI_Finalize
    delete comm;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  return with_comm("ncclCommGetAsyncError", comm, [&](CommState& c) {
    *error = static_cast<ncclResult_t>(c.async_error.load());
    return ncclSuccess;
  });
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  return with_comm("ncclCommCount", comm, [&](CommState& c) {
    *count = c.size;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  return with_comm("ncclCommCuDevice", comm, [&](CommState& c) {
    *device = c.device;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  return with_comm("ncclCommUserRank", comm, [&](CommState& c) {
    *rank = c.rank;
    return ncclSuccess;
  });
}

const char* ncclGetLastError(ncclComm_t) { return t_last_error.c_str(); }

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError: return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

}  // extern "C"
