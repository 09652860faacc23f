// MpiCommunicator: a group of MPI ranks. Its collectives go through shared memory where all members are on one host
// (SharedStage), else over MPI point-to-point messages, as send and recv always do: within a host those are one copy.
//
// Policy: over messages a reduction sends every rank the pieces that it owns and sums them there in rank order
// (combine_pieces); all_reduce is that plus an all-gather, so both give the same bits for every partition.
// MPI_Allreduce would choose the order by message size and group. Chunks of bounded size go through a scratch of fixed
// size, two in flight: one travels while the other is summed.
#pragma once

#include <mpi.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/trace.h"
#include "core/comm/communicator.h"
#include "core/comm/grid.h"
#include "core/comm/ledger.h"
#include "core/comm/mpi_wait.h"
#include "core/comm/shared_stage.h"
#include "core/comm/watchdog.h"

namespace trident {

/// What the communicators of one world share. Outlives them.
struct MpiShared {
  Ledger& ledger;
  Watchdog& watchdog;
  Seconds timeout;
  CommLimits limits;
};

class MpiCommunicator final : public Communicator {
 public:
  /// Takes `comm` over. `number`: the same on all members, unique in the job. `world_ranks`: of the members, in order.
  /// `segment`: of SharedStage::segment_bytes, on all members or empty on all.
  MpiCommunicator(MPI_Comm comm, int number, std::string_view axis, std::vector<int> world_ranks, MpiShared shared,
                  SharedSegment segment);
  /// The streams it was used on must be synchronized before.
  ~MpiCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string_view axis() const override { return axis_; }
  std::string_view transport() const override { return stage_ ? "shared memory" : "MPI"; }

  void all_reduce(Tensor inout, Reduce, Stream) override;
  void reduce_scatter(Tensor shard, Tensor full, Reduce, Stream) override;
  void all_gather(Tensor full, Tensor shard, Stream) override;
  void broadcast(Tensor inout, int root, Stream) override;
  void send(Tensor, int peer, int tag, Stream) override;
  void recv(Tensor, int peer, int tag, Stream) override;
  std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) override;
  void barrier() override;

 private:
  class Operation;
  using Requests = std::vector<MPI_Request>;

  template <class Body>
  void run(Stream stream, const char* name, size_t bytes, int peer, Body body);

  void post_send(const std::byte* from, size_t bytes, int peer, int tag, Requests& requests) const;
  void post_recv(std::byte* to, size_t bytes, int peer, int tag, Requests& requests) const;
  /// The peers in the order to address them: each rank starts at its right neighbour, so that nobody is mobbed.
  int peer_at(int distance) const { return (rank_ + distance) % size_; }

  void reduce_parts(Operation&, std::byte* own, const std::byte* full, const Parts&, DType, Reduce);
  /// Every rank's bytes to blocks_ of all ranks; this rank's are in its own.
  void gather_blocks(Operation&);
  void set_blocks(std::byte* full, const Parts&, size_t element_bytes);
  void all_reduce_tiny(Operation&, std::byte* inout, int64_t count, DType, Reduce);

  MPI_Comm comm_;
  const int number_;
  const std::string axis_;
  const trace::Activity activity_;  ///< of a thread that takes part
  const std::vector<int> world_ranks_;
  const MpiShared shared_;
  int rank_ = 0, size_ = 1;

  std::atomic<int64_t> collectives_begun_{0};
  std::atomic<bool> collective_running_{false};
  std::unique_ptr<SharedStage> stage_;  ///< where there is shared memory
  size_t scratch_bytes_ = 0;            ///< where there is none
  std::unique_ptr<std::byte, void (*)(void*)> scratch_;
  // Of collectives; kept so that a step allocates nothing.
  std::array<Requests, 2> requests_;
  std::vector<std::span<std::byte>> blocks_;
};

}  // namespace trident
