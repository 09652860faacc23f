#include "kernels/simt/nccl_operation.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "kernels/simt/runtime.h"

namespace simt {
namespace {

using trident::build_string;

const char* type_name(ncclDataType_t type) {
  switch (type) {
    case ncclInt8: return "ncclInt8";
    case ncclUint8: return "ncclUint8";
    case ncclInt32: return "ncclInt32";
    case ncclUint32: return "ncclUint32";
    case ncclInt64: return "ncclInt64";
    case ncclUint64: return "ncclUint64";
    case ncclFloat16: return "ncclFloat16";
    case ncclFloat32: return "ncclFloat32";
    case ncclFloat64: return "ncclFloat64";
    case ncclBfloat16: return "ncclBfloat16";
    default: return "an unknown type";
  }
}

const char* op_name(ncclRedOp_t op) {
  switch (op) {
    case ncclSum: return "ncclSum";
    case ncclProd: return "ncclProd";
    case ncclMax: return "ncclMax";
    case ncclMin: return "ncclMin";
    case ncclAvg: return "ncclAvg";
    default: return "an unknown operation";
  }
}

bool is_message(NcclKind kind) { return kind == NcclKind::send || kind == NcclKind::recv; }
bool reduces(NcclKind kind) {
  return kind == NcclKind::all_reduce || kind == NcclKind::reduce_scatter || kind == NcclKind::reduce;
}
bool rooted(NcclKind kind) { return kind == NcclKind::broadcast || kind == NcclKind::reduce; }

}  // namespace

const char* kind_name(NcclKind kind) {
  switch (kind) {
    case NcclKind::all_reduce: return "ncclAllReduce";
    case NcclKind::reduce_scatter: return "ncclReduceScatter";
    case NcclKind::all_gather: return "ncclAllGather";
    case NcclKind::broadcast: return "ncclBroadcast";
    case NcclKind::reduce: return "ncclReduce";
    case NcclKind::send: return "ncclSend";
    case NcclKind::recv: return "ncclRecv";
  }
  return "?";
}

size_t type_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 0;
  }
}

bool agree(const Signature& a, const Signature& b) {
  if (is_message(a.kind)) return a.count == b.count && a.type == b.type;
  return a.number == b.number && a.kind == b.kind && a.count == b.count && a.type == b.type &&
         (!reduces(a.kind) || a.op == b.op) && (!rooted(a.kind) || a.root == b.root);
}

std::string describe(const Signature& s) {
  const std::string what = build_string(kind_name(s.kind), " (count ", s.count, ", ", type_name(s.type));
  if (is_message(s.kind)) return build_string(what, ", peer ", s.root, ")");
  return build_string(what, reduces(s.kind) ? ", " : "", reduces(s.kind) ? op_name(s.op) : "",
                      rooted(s.kind) ? build_string(", root ", s.root) : "", "), collective ", s.number);
}

// ---- messages ----

Messages::~Messages() {
  if (requests_.empty() || over()) return;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (messages_[i].incoming) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
    new Buffer(messages_[i].data);  // MPI may still touch it: kept for good
  }
}

void Messages::send(Buffer data, size_t begin, size_t bytes, int to, int tag, bool until_received) {
  trident::ensure(bytes <= size_t(std::numeric_limits<int>::max()), "a message of the emulated NCCL is below 2 GiB");
  const auto mpi_send = until_received ? MPI_Issend : MPI_Isend;
  MPI_Request request;
  mpi_send(data->data() + begin, static_cast<int>(bytes), MPI_BYTE, to, tag, comm_, &request);
  requests_.push_back(request);
  messages_.push_back({to, false, std::move(data)});
}

void Messages::receive(Buffer data, size_t begin, size_t bytes, int from, int tag) {
  trident::ensure(bytes <= size_t(std::numeric_limits<int>::max()), "a message of the emulated NCCL is below 2 GiB");
  MPI_Request request;
  MPI_Irecv(data->data() + begin, static_cast<int>(bytes), MPI_BYTE, from, tag, comm_, &request);
  requests_.push_back(request);
  messages_.push_back({from, true, std::move(data)});
}

bool Messages::over() {
  if (requests_.empty()) return true;
  // Not MPI_Testall: it says nothing about single requests, and a stall wants to name who is missing.
  bool all = true;
  for (MPI_Request& r : requests_) {
    int done = 0;
    MPI_Test(&r, &done, MPI_STATUS_IGNORE);
    all = all && done;
  }
  if (!all) return false;
  requests_.clear();
  messages_.clear();
  return true;
}

std::vector<int> Messages::missing() const {
  std::vector<int> ranks;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) ranks.push_back(messages_[i].peer);
  }
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

// ---- operations ----

NcclOperation::NcclOperation(CommPtr comm, const Signature& signature, const void* send, void* receive)
    : comm_(std::move(comm)), signature_(signature), send_(send), receive_(receive), messages_(comm_->mpi) {}

bool NcclOperation::poll() {
  if (comm_->aborted) return true;
  if (hang_ != 0) {
    comm_->async_error = hang_;
    return false;
  }
  if (begin_ == std::chrono::steady_clock::time_point{}) begin_ = std::chrono::steady_clock::now();
  while (messages_.over()) {
    if (advance()) return true;
  }
  return stalled();
}

bool NcclOperation::stalled() {
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin_;
  if (waited.count() < nccl_timeout()) return false;
  std::string missing;
  for (const int rank : messages_.missing()) missing += (missing.empty() ? "" : ", ") + rank_name(*comm_, rank);
  report(ReportKind::nccl_stall, build_string(rank_name(*comm_, comm_->rank), " has waited ", waited.count(), " s in ",
                                              describe(signature_), "; not there: ", missing));
  comm_->aborted = true;  // nothing later on this communicator could match
  return true;
}

Messages::Buffer NcclOperation::take(const void* device, size_t bytes) const {
  const auto* source = static_cast<const char*>(device);
  if (bytes > 0) dev_op_access(device, bytes, false, "send buffer");
  return std::make_shared<std::vector<char>>(source, source + bytes);
}

void NcclOperation::give(void* device, const Messages::Buffer& from, size_t begin, size_t bytes) const {
  if (bytes == 0) return;
  dev_op_access(device, bytes, true, "receive buffer");
  std::memcpy(device, from->data() + begin, bytes);
}

}  // namespace simt
