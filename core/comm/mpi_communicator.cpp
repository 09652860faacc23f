#include "core/comm/mpi_communicator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/base/integer.h"
#include "core/comm/combine.h"
#include "core/device/device.h"

namespace trident {
namespace {

constexpr size_t kAlignment = 64;
constexpr int kCollectiveTag = 0;  // tags of send and recv are one higher
constexpr int kNoPeer = -1;

std::byte* bytes_of(const Tensor& tensor) {
  ensure(!tensor.dry() || tensor.numel() == 0, "MPI moves real memory; the planner uses groups of one");
  return static_cast<std::byte*>(tensor.data);
}

trace::Activity activity_of(std::string_view axis) {
  if (axis == "tensor") return trace::Activity::comm_tensor;
  if (axis == "pipeline" || axis == "ends") return trace::Activity::comm_pipeline;
  if (axis == "data" || axis == "shards" || axis == "replicas") return trace::Activity::comm_data;
  return trace::Activity::comm_world;
}

size_t round_down(size_t bytes, size_t unit) { return bytes / unit * unit; }

}  // namespace

/// One operation in progress: its ledger line, its number, its timeout.
class MpiCommunicator::Operation {
 public:
  Operation(MpiCommunicator& owner, const char* name, size_t bytes, int peer)
      : owner_(owner), name_(name), peer_(peer), section_(owner.activity_) {
    if (peer == kNoPeer) {
      ensure(!owner.collective_running_.exchange(true),
             "one collective at a time on a communicator; its streams are ordered by events");
      sequence_ = ++owner.collectives_begun_;
    }
    number_ = owner.shared_.ledger.begin(owner.axis_, name, bytes);
  }
  ~Operation() {
    owner_.shared_.ledger.end(owner_.axis_, name_);
    if (peer_ == kNoPeer) owner_.collective_running_ = false;
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  /// Waits for the requests and forgets them. The timeout counts from here: it bounds silence, not size.
  void wait(Requests& requests) {
    if (!wait_all(requests, owner_.shared_.timeout)) give_up();
    requests.clear();
  }
  /// The same for what waits elsewhere.
  SharedStage::GiveUp when_silent() const {
    return [this] { give_up(); };
  }

 private:
  [[noreturn]] void give_up() const {
    Stall stall;
    stall.operation = build_string(name_, " #", number_, " on ", owner_.axis_);
    stall.communicator = owner_.number_;
    stall.sequence = sequence_;
    stall.seconds = owner_.shared_.timeout.count();
    for (int i = 0; i < owner_.size_; ++i) {
      if (peer_ == kNoPeer ? i != owner_.rank_ : i == peer_) stall.members.push_back(owner_.world_ranks_[i]);
    }
    owner_.shared_.watchdog.give_up(stall);
  }

  MpiCommunicator& owner_;
  const char* const name_;
  const int peer_;
  const trace::Section section_;
  int64_t sequence_ = 0, number_ = 0;
};

MpiCommunicator::MpiCommunicator(MPI_Comm comm, int number, std::string_view axis, std::vector<int> world_ranks,
                                 MpiShared shared, SharedSegment segment)
    : comm_(comm),
      number_(number),
      axis_(axis),
      activity_(activity_of(axis)),
      world_ranks_(std::move(world_ranks)),
      shared_(shared),
      scratch_(nullptr, &std::free) {
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
  blocks_.resize(static_cast<size_t>(size_));
  shared_.watchdog.watch(number_, &collectives_begun_);
  if (segment.data() != nullptr) {
    stage_ = std::make_unique<SharedStage>(std::move(segment), rank_, size_, shared.limits.stage_bytes, shared.timeout);
    return;
  }
  // Every peer has a slot of at least one cache line in each half.
  scratch_bytes_ = round_up(std::max(shared.limits.scratch_bytes, 2 * kAlignment * size_), 2 * kAlignment);
  scratch_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, scratch_bytes_)));
  if (!scratch_) throw RunError(build_string("no memory for ", scratch_bytes_, " bytes of scratch on axis ", axis_));
}

MpiCommunicator::~MpiCommunicator() {
  shared_.watchdog.unwatch(number_);
  MPI_Comm_free(&comm_);
}

template <class Body>
void MpiCommunicator::run(Stream stream, const char* name, size_t bytes, int peer, Body body) {
  submit(stream, [=, this] {
    Operation operation(*this, name, bytes, peer);
    body(operation);
  });
}

void MpiCommunicator::post_send(const std::byte* from, size_t bytes, int peer, int tag, Requests& requests) const {
  for (size_t done = 0; done < bytes; done += shared_.limits.message_bytes) {
    const int length = static_cast<int>(std::min(bytes - done, shared_.limits.message_bytes));
    requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(from + done, length, MPI_BYTE, peer, tag, comm_, &requests.back()), "MPI_Isend");
  }
}

void MpiCommunicator::post_recv(std::byte* to, size_t bytes, int peer, int tag, Requests& requests) const {
  for (size_t done = 0; done < bytes; done += shared_.limits.message_bytes) {
    const int length = static_cast<int>(std::min(bytes - done, shared_.limits.message_bytes));
    requests.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Irecv(to + done, length, MPI_BYTE, peer, tag, comm_, &requests.back()), "MPI_Irecv");
  }
}

void MpiCommunicator::reduce_parts(Operation& operation, std::byte* own, const std::byte* full, const Parts& parts,
                                   DType dtype, Reduce reduce) {
  if (stage_) return stage_->reduce_scatter(own, full, parts, dtype, reduce, operation.when_silent());
  const size_t element = dtype_bytes(dtype);
  const size_t half_bytes = scratch_bytes_ / 2;
  const size_t slot_bytes = round_down(half_bytes / std::max(size_ - 1, 1), kAlignment);
  const int64_t chunk = static_cast<int64_t>(slot_bytes / element);
  const int64_t turns = ceil_div(parts.end(0), chunk);
  const auto slot = [&](int64_t turn, int peer) {
    return scratch_.get() + (turn % 2) * half_bytes + (peer < rank_ ? peer : peer - 1) * slot_bytes;
  };
  const auto first = [&](int64_t turn, int part) {
    return std::min(parts.begin(part) + turn * chunk, parts.end(part));
  };
  const auto length = [&](int64_t turn, int part) { return first(turn + 1, part) - first(turn, part); };

  std::vector<const std::byte*> pieces(size_);
  for (int64_t turn = 0; turn <= turns; ++turn) {
    if (turn < turns) {
      Requests& requests = requests_[turn % 2];
      for (int distance = 1; distance < size_; ++distance) {
        const int to = peer_at(distance), from = peer_at(size_ - distance);
        post_recv(slot(turn, from), length(turn, rank_) * element, from, kCollectiveTag, requests);
        post_send(full + first(turn, to) * element, length(turn, to) * element, to, kCollectiveTag, requests);
      }
    }
    if (turn == 0) continue;
    const int64_t last = turn - 1;
    operation.wait(requests_[last % 2]);
    for (int peer = 0; peer < size_; ++peer) {
      pieces[peer] = peer == rank_ ? full + first(last, rank_) * element : slot(last, peer);
    }
    combine_pieces(dtype, reduce, own + last * chunk * element, pieces, length(last, rank_));
  }
}

void MpiCommunicator::set_blocks(std::byte* full, const Parts& parts, size_t element_bytes) {
  for (int i = 0; i < size_; ++i) {
    blocks_[i] = {full + parts.begin(i) * element_bytes, full + parts.end(i) * element_bytes};
  }
}

void MpiCommunicator::gather_blocks(Operation& operation) {
  if (stage_) return stage_->all_gather(blocks_, operation.when_silent());
  Requests& requests = requests_[0];
  for (int distance = 1; distance < size_; ++distance) {
    const int to = peer_at(distance), from = peer_at(size_ - distance);
    post_recv(blocks_[from].data(), blocks_[from].size(), from, kCollectiveTag, requests);
    post_send(blocks_[rank_].data(), blocks_[rank_].size(), to, kCollectiveTag, requests);
  }
  operation.wait(requests);
}

void MpiCommunicator::all_reduce_tiny(Operation& operation, std::byte* inout, int64_t count, DType dtype,
                                      Reduce reduce) {
  const size_t bytes = count * dtype_bytes(dtype), slot_bytes = round_up(bytes, kAlignment);
  Requests& requests = requests_[0];
  std::vector<const std::byte*> pieces(size_);
  pieces[rank_] = inout;
  for (int distance = 1; distance < size_; ++distance) {
    const int to = peer_at(distance), from = peer_at(size_ - distance);
    std::byte* const slot = scratch_.get() + from * slot_bytes;
    pieces[from] = slot;
    post_recv(slot, bytes, from, kCollectiveTag, requests);
    post_send(inout, bytes, to, kCollectiveTag, requests);
  }
  operation.wait(requests);
  combine_pieces(dtype, reduce, inout, pieces, count);
}

void MpiCommunicator::all_reduce(Tensor inout, Reduce reduce, Stream stream) {
  const size_t bytes = inout.bytes();
  run(stream, "all_reduce", 2 * bytes / size_ * (size_ - 1), kNoPeer, [=, this](Operation& operation) {
    std::byte* const data = bytes_of(inout);
    const int64_t count = inout.numel();
    if (count == 0) return;
    if (stage_) return stage_->all_reduce(data, count, inout.dtype, reduce, operation.when_silent());
    // One round of messages instead of two; the sum is the same, in the same order.
    if (bytes <= shared_.limits.tiny_bytes && round_up(bytes, kAlignment) * size_ <= scratch_bytes_) {
      return all_reduce_tiny(operation, data, count, inout.dtype, reduce);
    }
    const Parts parts{count, size_};
    const size_t element = dtype_bytes(inout.dtype);
    reduce_parts(operation, data + parts.begin(rank_) * element, data, parts, inout.dtype, reduce);
    set_blocks(data, parts, element);
    gather_blocks(operation);
  });
}

void MpiCommunicator::reduce_scatter(Tensor shard, Tensor full, Reduce reduce, Stream stream) {
  ensure(shard.dtype == full.dtype && full.numel() == size_ * shard.numel(), "full holds one shard per rank");
  run(stream, "reduce_scatter", shard.bytes() * (size_ - 1), kNoPeer, [=, this](Operation& operation) {
    if (full.numel() == 0) return;
    reduce_parts(operation, bytes_of(shard), bytes_of(full), {full.numel(), size_}, full.dtype, reduce);
  });
}

void MpiCommunicator::all_gather(Tensor full, Tensor shard, Stream stream) {
  ensure(shard.dtype == full.dtype && full.numel() == size_ * shard.numel(), "full holds one shard per rank");
  run(stream, "all_gather", shard.bytes() * (size_ - 1), kNoPeer, [=, this](Operation& operation) {
    if (full.numel() == 0) return;
    std::byte* const own = bytes_of(full) + rank_ * shard.bytes();
    if (own != shard.data) std::memcpy(own, bytes_of(shard), shard.bytes());
    set_blocks(bytes_of(full), {full.numel(), size_}, dtype_bytes(full.dtype));
    gather_blocks(operation);
  });
}

void MpiCommunicator::broadcast(Tensor inout, int root, Stream stream) {
  ensure(root >= 0 && root < size_, "the root is a member of the group");
  run(stream, "broadcast", rank_ == root ? inout.bytes() : 0, kNoPeer, [=, this](Operation& operation) {
    std::byte* const data = bytes_of(inout);
    const size_t bytes = inout.bytes();
    if (stage_) return stage_->broadcast({data, bytes}, root, operation.when_silent());
    Requests& requests = requests_[0];
    for (size_t done = 0; done < bytes; done += shared_.limits.message_bytes) {
      const int length = static_cast<int>(std::min(bytes - done, shared_.limits.message_bytes));
      requests.push_back(MPI_REQUEST_NULL);
      check_mpi(MPI_Ibcast(data + done, length, MPI_BYTE, root, comm_, &requests.back()), "MPI_Ibcast");
      operation.wait(requests);
    }
  });
}

void MpiCommunicator::send(Tensor tensor, int peer, int tag, Stream stream) {
  ensure(peer >= 0 && peer < size_ && peer != rank_ && tag >= 0, "a send goes to another member, with a tag >= 0");
  run(stream, "send", tensor.bytes(), peer, [=, this](Operation& operation) {
    Requests requests;
    post_send(bytes_of(tensor), tensor.bytes(), peer, tag + 1, requests);
    operation.wait(requests);
  });
}

void MpiCommunicator::recv(Tensor tensor, int peer, int tag, Stream stream) {
  ensure(peer >= 0 && peer < size_ && peer != rank_ && tag >= 0, "a receive is from another member, with a tag >= 0");
  run(stream, "recv", 0, peer, [=, this](Operation& operation) {
    Requests requests;
    post_recv(bytes_of(tensor), tensor.bytes(), peer, tag + 1, requests);
    operation.wait(requests);
  });
}

std::vector<std::vector<std::byte>> MpiCommunicator::all_gather_bytes(std::span<const std::byte> mine) {
  Operation operation(*this, "all_gather_bytes", mine.size() * (size_ - 1), kNoPeer);
  std::vector<uint64_t> lengths(size_);
  lengths[rank_] = mine.size();
  set_blocks(reinterpret_cast<std::byte*>(lengths.data()), {size_, size_}, sizeof(uint64_t));
  gather_blocks(operation);
  std::vector<std::vector<std::byte>> all(size_);
  all[rank_].assign(mine.begin(), mine.end());
  for (int i = 0; i < size_; ++i) {
    all[i].resize(lengths[i]);
    blocks_[i] = all[i];
  }
  gather_blocks(operation);
  return all;
}

void MpiCommunicator::barrier() {
  Operation operation(*this, "barrier", 0, kNoPeer);
  if (stage_) return stage_->barrier(operation.when_silent());
  Requests& requests = requests_[0];
  requests.push_back(MPI_REQUEST_NULL);
  check_mpi(MPI_Ibarrier(comm_, &requests.back()), "MPI_Ibarrier");
  operation.wait(requests);
}

}  // namespace trident
