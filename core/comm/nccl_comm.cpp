#include "core/comm/nccl_comm.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/comm/nccl_watch.h"

namespace trident {
namespace {

/// Throws RunError with NCCL's words.
void check_nccl(ncclResult_t result, const char* call) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const char* detail = ncclGetLastError(nullptr);
  throw RunError(build_string(call, " failed: ", ncclGetErrorString(result), detail == nullptr ? "" : ": ",
                              detail == nullptr ? "" : detail));
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32: return ncclFloat32;
    case DType::bf16: return ncclBfloat16;
    case DType::f16: return ncclFloat16;
    case DType::f64: return ncclFloat64;
    case DType::i32: return ncclInt32;
    case DType::i64: return ncclInt64;
    default: throw InternalError(build_string("no NCCL type for ", dtype_name(dtype)));
  }
}

ncclRedOp_t nccl_op(Reduce reduce) { return reduce == Reduce::sum ? ncclSum : ncclMax; }

/// One ncclComm_t: initialised when made (collective over its members), watched while it lives.
class NcclGroup {
 public:
  NcclGroup(const ncclUniqueId& id, int size, int rank, NcclWatch* watch) : watch_(watch) {
    check_nccl(ncclCommInitRank(&comm_, size, id, rank), "ncclCommInitRank");
    if (watch_ == nullptr) return;
    watch_->add(this, [this]() -> std::string {
      ncclResult_t state = ncclSuccess;
      if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) return "the communicator does not answer";
      if (state == ncclSuccess || state == ncclInProgress) return "";
      return ncclGetErrorString(state);
    });
  }
  ~NcclGroup() {
    if (watch_ != nullptr) watch_->remove(this);
    (void)ncclCommDestroy(comm_);
  }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  ncclComm_t comm() const { return comm_; }

 private:
  NcclWatch* watch_;
  ncclComm_t comm_ = nullptr;
};

ncclUniqueId new_id() {
  ncclUniqueId id;
  check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  return id;
}

/// Every member's ids, `count` of each.
std::vector<ncclUniqueId> share_ids(Communicator& base, std::span<const ncclUniqueId> mine) {
  std::vector<ncclUniqueId> ids;
  for (const auto& bytes : base.all_gather_bytes(std::as_bytes(mine))) {
    const size_t count = bytes.size() / sizeof(ncclUniqueId), first = ids.size();
    ids.resize(first + count);
    std::memcpy(ids.data() + first, bytes.data(), bytes.size());
  }
  return ids;
}

/// What the communicators of one world share.
struct NcclShared {
  Device& device;
  World& world;
  NcclWatch* watch;  ///< nullptr in a world of one
};

class NcclCommunicator final : public Communicator {
 public:
  /// `base`: the same group over MPI. `number`: the same on all members, unique in the job. `lanes`: make the
  /// pipeline's point-to-point lanes.
  NcclCommunicator(std::unique_ptr<Communicator> base, int number, bool lanes, const NcclShared& shared)
      : base_(std::move(base)), number_(number), shared_(shared) {
    if (size() == 1) return;
    const ncclUniqueId mine = new_id();
    group_ = std::make_unique<NcclGroup>(share_ids(*base_, {&mine, 1}).front(), size(), rank(), shared.watch);
    const int me = shared.world.rank();
    for (const auto& bytes : base_->all_gather_bytes(std::as_bytes(std::span(&me, 1)))) {
      std::memcpy(&world_ranks_.emplace_back(), bytes.data(), sizeof(int));
    }
    if (lanes) make_lanes();
    shared.world.watchdog()->watch(number_, &begun_);
  }
  ~NcclCommunicator() override {
    if (size() > 1) shared_.world.watchdog()->unwatch(number_);
  }

  int rank() const override { return base_->rank(); }
  int size() const override { return base_->size(); }
  std::string_view axis() const override { return base_->axis(); }
  std::string_view transport() const override { return size() == 1 ? "" : "NCCL"; }

  void all_reduce(Tensor inout, Reduce reduce, Stream stream) override {
    check_place(inout);
    if (skip(inout)) return;
    const size_t bytes = 2 * inout.bytes() / static_cast<size_t>(size()) * static_cast<size_t>(size() - 1);
    run("all_reduce", bytes, kEveryone, stream, [&](cudaStream_t s) {
      return ncclAllReduce(inout.data, inout.data, count(inout), nccl_type(inout.dtype), nccl_op(reduce),
                           group_->comm(), s);
    });
  }

  void reduce_scatter(Tensor shard, Tensor full, Reduce reduce, Stream stream) override {
    ensure(shard.dtype == full.dtype && full.numel() == size() * shard.numel(), "full holds one shard per rank");
    check_place(full);
    if (size() == 1) return shared_.device.copy(shard, full, stream);
    if (skip(full)) return;
    run("reduce_scatter", shard.bytes() * static_cast<size_t>(size() - 1), kEveryone, stream, [&](cudaStream_t s) {
      return ncclReduceScatter(full.data, shard.data, count(shard), nccl_type(full.dtype), nccl_op(reduce),
                               group_->comm(), s);
    });
  }

  void all_gather(Tensor full, Tensor shard, Stream stream) override {
    ensure(shard.dtype == full.dtype && full.numel() == size() * shard.numel(), "full holds one shard per rank");
    check_place(full);
    if (size() == 1) return shared_.device.copy(full, shard, stream);
    if (skip(full)) return;
    run("all_gather", shard.bytes() * static_cast<size_t>(size() - 1), kEveryone, stream, [&](cudaStream_t s) {
      return ncclAllGather(shard.data, full.data, count(shard), nccl_type(full.dtype), group_->comm(), s);
    });
  }

  void broadcast(Tensor inout, int root, Stream stream) override {
    ensure(root >= 0 && root < size(), "the root is a member of the group");
    check_place(inout);
    if (skip(inout)) return;
    run("broadcast", rank() == root ? inout.bytes() : 0, kEveryone, stream, [&](cudaStream_t s) {
      return ncclBroadcast(inout.data, inout.data, count(inout), nccl_type(inout.dtype), root, group_->comm(), s);
    });
  }

  void send(Tensor tensor, int peer, int tag, Stream stream) override {
    check_place(tensor);
    if (tensor.numel() == 0) return;
    const Lane& lane = lane_of(rank(), peer, tag);
    run("send", tensor.bytes(), peer, stream, [&](cudaStream_t s) {
      return ncclSend(tensor.data, count(tensor), nccl_type(tensor.dtype), lane.peer, lane.group->comm(), s);
    });
  }

  void recv(Tensor tensor, int peer, int tag, Stream stream) override {
    check_place(tensor);
    if (tensor.numel() == 0) return;
    const Lane& lane = lane_of(peer, rank(), tag);
    run("recv", 0, peer, stream, [&](cudaStream_t s) {
      return ncclRecv(tensor.data, count(tensor), nccl_type(tensor.dtype), lane.peer, lane.group->comm(), s);
    });
  }

  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) override {
    return base_->all_gather_bytes(mine);
  }
  void barrier() override { base_->barrier(); }

 private:
  static constexpr int kEveryone = -1;

  /// A communicator of two for messages in one direction and of one parity of tags. NCCL runs the operations of one
  /// communicator in the order submitted, whatever their streams: sends and receives of a stage on one communicator
  /// would wait for one another and deadlock.
  struct Lane {
    int from, to, parity;
    int peer;  ///< the other's rank in the group of two
    std::unique_ptr<NcclGroup> group;
  };

  static size_t count(const Tensor& t) { return static_cast<size_t>(t.numel()); }
  bool skip(const Tensor& t) const { return size() == 1 || t.numel() == 0; }

  static void check_place(const Tensor& t) {
    ensure(t.place == Place::device, "NCCL moves device memory; control data goes by all_gather_bytes");
  }

  /// Even tags go round the ring forwards, odd ones backwards, each edge with a lane of its own. Edges with an even
  /// first rank first: neighbours then initialise two by two.
  void make_lanes() {
    const std::array<ncclUniqueId, 2> mine = {new_id(), new_id()};
    const std::vector<ncclUniqueId> ids = share_ids(*base_, mine);
    for (const int parity_of_edge : {0, 1}) {
      for (int low = parity_of_edge; low < size(); low += 2) {
        const int high = (low + 1) % size();
        if (rank() != low && rank() != high) continue;
        for (const int parity : {0, 1}) {
          const int from = parity == 0 ? low : high, to = parity == 0 ? high : low;
          const int me = rank() == low ? 0 : 1;
          lanes_.push_back(
              {from, to, parity, 1 - me,
               std::make_unique<NcclGroup>(ids[static_cast<size_t>(2 * low + parity)], 2, me, shared_.watch)});
        }
      }
    }
  }

  const Lane& lane_of(int from, int to, int tag) const {
    const auto found = std::find_if(lanes_.begin(), lanes_.end(), [&](const Lane& lane) {
      return lane.from == from && lane.to == to && lane.parity == tag % 2;
    });
    ensure(found != lanes_.end(),
           "over NCCL, even tags go to the next rank of the pipeline and odd ones to the previous");
    return *found;
  }

  template <class Call>
  void run(const char* name, size_t bytes, int peer, Stream stream, Call call) {
    const int64_t operation = shared_.world.ledger().begin(axis(), name, bytes);
    if (peer == kEveryone) ++begun_;
    check_nccl(call(static_cast<cudaStream_t>(stream.handle)), name);
    shared_.world.ledger().end(axis(), name);
    if (shared_.watch == nullptr) return;
    Stall stall{.operation = build_string(name, " #", operation, " on ", axis()),
                .communicator = number_,
                .sequence = peer == kEveryone ? begun_.load() : 0};
    for (int i = 0; i < size(); ++i) {
      if (peer == kEveryone ? i != rank() : i == peer) stall.members.push_back(world_ranks_[static_cast<size_t>(i)]);
    }
    shared_.watch->submitted(shared_.device.record(stream), std::move(stall));
  }

  std::unique_ptr<Communicator> base_;
  const int number_;
  const NcclShared shared_;
  std::vector<int> world_ranks_;
  std::unique_ptr<NcclGroup> group_;
  std::vector<Lane> lanes_;
  std::atomic<int64_t> begun_{0};
};

class NcclWorld final : public World {
 public:
  NcclWorld(World& base, Device& device, std::chrono::duration<double> timeout) : base_(base), device_(device) {
    if (base.watchdog() != nullptr) watch_ = std::make_unique<NcclWatch>(device, *base.watchdog(), timeout);
  }

  int rank() const override { return base_.rank(); }
  int size() const override { return base_.size(); }
  std::string host() const override { return base_.host(); }
  int local_rank() const override { return base_.local_rank(); }
  int local_size() const override { return base_.local_size(); }
  Ledger& ledger() override { return base_.ledger(); }
  Watchdog* watchdog() override { return base_.watchdog(); }
  void abort(int code, std::string_view message) override { base_.abort(code, message); }

  std::unique_ptr<Communicator> split(int color, std::string_view axis) override {
    // MPI communicators count from 0; these are told apart by an offset.
    constexpr int kFirstNumber = 1 << 20;
    const int number = kFirstNumber + splits_++;
    return std::make_unique<NcclCommunicator>(base_.split(color, axis), number, axis == axis_name(Axis::pipeline),
                                              NcclShared{device_, base_, watch_.get()});
  }

 private:
  World& base_;
  Device& device_;
  std::unique_ptr<NcclWatch> watch_;
  int splits_ = 0;  ///< the same on all ranks, since split is collective
};

}  // namespace

std::unique_ptr<World> make_nccl_world(World& base, Device& device, std::chrono::duration<double> timeout) {
  return std::make_unique<NcclWorld>(base, device, timeout);
}

std::string nccl_version() {
  int version = 0;
  check_nccl(ncclGetVersion(&version), "ncclGetVersion");
  return build_string("NCCL ", version / 10000, '.', version / 100 % 100, '.', version % 100);
}

}  // namespace trident
