// Collectives, messages and groups of the NCCL API.
//
// A group is a unit: the operations of it that share a stream become one operation of that stream, in which all make
// progress together. Operations of one communicator run in the order of issue even on different streams, as NCCL makes
// them; those of different communicators wait for nothing but their streams.
#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "kernels/simt/nccl_operation.h"
#include "kernels/simt/nccl_reduce.h"

namespace simt {
namespace {

using trident::build_string;

struct Issued {
  cudaStream_t stream;
  std::shared_ptr<NcclOperation> operation;
};

thread_local int t_depth = 0;
thread_local std::vector<Issued> t_group;

bool overlap(const Range& a, const Range& b) {
  const auto *x = static_cast<const char*>(a.address), *y = static_cast<const char*>(b.address);
  return x < y + b.bytes && y < x + a.bytes;
}

/// Operations of one group run at the same time: they may share memory only for reading.
void check_sharing(const std::vector<Issued>& group) {
  for (size_t i = 0; i < group.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      for (const Range& a : group[i].operation->ranges()) {
        for (const Range& b : group[j].operation->ranges()) {
          if ((!a.write && !b.write) || !overlap(a, b)) continue;
          report(ReportKind::race, build_string(group[j].operation->name(), " and ", group[i].operation->name(),
                                                " of one group share memory at ", a.address, ", and one writes it"));
          return;
        }
      }
    }
  }
}

ncclResult_t launch_on(cudaStream_t stream, const std::vector<std::shared_ptr<NcclOperation>>& operations) {
  Work work{operations.size() == 1 ? operations[0]->name() : "ncclGroup", {}, nullptr};
  for (const auto& operation : operations) {
    CommState& c = *operation->comm();
    if (c.last && c.last_stream != stream) follow(stream, c.last);
    work.ranges.insert(work.ranges.end(), operation->ranges().begin(), operation->ranges().end());
  }
  work.poll = [left = operations]() mutable {
    std::erase_if(left, [](const auto& operation) { return operation->poll(); });
    return left.empty();
  };
  if (submit(stream, std::move(work)) != cudaSuccess) {
    return nccl_failed(ncclUnhandledCudaError, "the stream or the device is in error");
  }
  const MarkPtr end = mark_stream(stream);
  for (const auto& operation : operations) {
    operation->comm()->last = end;
    operation->comm()->last_stream = stream;
  }
  return ncclSuccess;
}

ncclResult_t launch_group(std::vector<Issued> group) {
  check_sharing(group);
  ncclResult_t result = ncclSuccess;
  while (!group.empty()) {
    const cudaStream_t stream = group.front().stream;
    std::vector<std::shared_ptr<NcclOperation>> operations;
    std::erase_if(group, [&](const Issued& issued) {
      if (issued.stream != stream) return false;
      operations.push_back(issued.operation);
      return true;
    });
    if (const ncclResult_t r = launch_on(stream, operations); r != ncclSuccess) result = r;
  }
  return result;
}

/// What the documentation calls in place; any other overlap of the two buffers is wrong.
bool buffers_fit(const Signature& s, const CommState& c, const void* send, const void* receive) {
  const size_t bytes = s.count * type_bytes(s.type);
  const auto *from = static_cast<const char*>(send), *to = static_cast<const char*>(receive);
  const bool gathers = s.kind == NcclKind::all_gather, scatters = s.kind == NcclKind::reduce_scatter;
  const Range in{send, scatters ? bytes * c.size : bytes, false}, out{receive, gathers ? bytes * c.size : bytes, true};
  if (!overlap(in, out) || bytes == 0) return true;
  if (gathers) return from == to + c.rank * bytes;
  if (scatters) return to == from + c.rank * bytes;
  return from == to;
}

ncclResult_t issue(NcclKind kind, const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                   int root, ncclComm_t comm, cudaStream_t stream) {
  const char* const name = kind_name(kind);
  if (const int injected = injected_error(name)) return nccl_failed(static_cast<ncclResult_t>(injected), "injected");
  if (comm == nullptr) return nccl_failed(ncclInvalidArgument, build_string(name, ": no communicator"));
  CommState& c = *comm->state;
  const bool message = kind == NcclKind::send || kind == NcclKind::recv;
  const bool reduces = kind == NcclKind::all_reduce || kind == NcclKind::reduce_scatter || kind == NcclKind::reduce;
  if (type_bytes(type) == 0 || (reduces && !reducible(type, op)) || root < 0 || root >= c.size) {
    return nccl_failed(ncclInvalidArgument, build_string(name, ": type ", int(type), ", operation ", int(op),
                                                         ", root or peer ", root, " of ", c.size, " ranks"));
  }
  const Signature s{message ? 0 : c.collectives++, kind, root, count, type, op};
  if (!message && !buffers_fit(s, c, send, receive)) {
    report(ReportKind::nccl_usage, build_string(describe(s), ": the buffers overlap, but not as in place means"));
  }
  auto operation =
      message ? make_message(comm->state, s, send, receive) : make_collective(comm->state, s, send, receive);
  if (const int error = injected_error("collective")) operation->hang(error);
  Issued issued{stream, std::move(operation)};
  if (t_depth > 0) {
    t_group.push_back(std::move(issued));
    return ncclSuccess;
  }
  return launch_group({std::move(issued)});
}

}  // namespace
}  // namespace simt

using namespace simt;

extern "C" {

ncclResult_t ncclGroupStart() {
  ++t_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (t_depth == 0) return nccl_failed(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--t_depth > 0) return ncclSuccess;
  return launch_group(std::exchange(t_group, {}));
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return issue(NcclKind::all_reduce, send, receive, count, type, op, 0, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return issue(NcclKind::reduce_scatter, send, receive, count, type, op, 0, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return issue(NcclKind::all_gather, send, receive, count, type, ncclSum, 0, comm, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return issue(NcclKind::broadcast, send, receive, count, type, ncclSum, root, comm, stream);
}

ncclResult_t ncclBcast(void* buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                       cudaStream_t stream) {
  return issue(NcclKind::broadcast, buffer, buffer, count, type, ncclSum, root, comm, stream);
}

ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return issue(NcclKind::reduce, send, receive, count, type, op, root, comm, stream);
}

ncclResult_t ncclSend(const void* buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return issue(NcclKind::send, buffer, nullptr, count, type, ncclSum, peer, comm, stream);
}

ncclResult_t ncclRecv(void* buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return issue(NcclKind::recv, nullptr, buffer, count, type, ncclSum, peer, comm, stream);
}

}  // extern "C"
