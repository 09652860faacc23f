// SharedStage: the collectives between ranks of one host, through memory that all of them have mapped.
//
// Policy: an operation is a row of turns. In a turn every rank copies what others need of it into its own area, posts
// (counts up its flag), and reads the areas of those whose posts it has seen; large tensors go through areas the size
// of a cache. Every area has two halves, used in turn: who writes has seen that all others have begun the turn before,
// hence have read the half for good. Ranks make the same posts in the same order, so one counter each is all they say.
// Sums are made by combine_pieces in rank order, like those over MPI: the same bits.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/base/dtype.h"
#include "core/comm/communicator.h"
#include "core/comm/mpi_wait.h"
#include "core/comm/shared_segment.h"

namespace trident {

/// How `total` elements divide over a group: as evenly as can be, longer parts first.
struct Parts {
  int64_t total;
  int count;
  int64_t begin(int i) const { return total / count * i + std::min<int64_t>(i, total % count); }
  int64_t end(int i) const { return begin(i + 1); }
};

/// Used by one thread at a time, by all ranks in the same order.
class SharedStage {
 public:
  /// Called when a wait has been silent for the timeout; does not return.
  using GiveUp = std::function<void()>;

  /// `stage_bytes`: of each rank; `segment` has segment_bytes(size, stage_bytes).
  SharedStage(SharedSegment segment, int rank, int size, size_t stage_bytes, Seconds timeout);
  static size_t segment_bytes(int size, size_t stage_bytes);

  void all_reduce(std::byte* inout, int64_t count, DType, Reduce, const GiveUp&);
  /// own = this rank's part of the reduction of `full`; may be that part of it.
  void reduce_scatter(std::byte* own, const std::byte* full, const Parts&, DType, Reduce, const GiveUp&);
  /// blocks[i]: where the bytes of rank i go; this rank's are there already. The lengths are the same on all ranks.
  void all_gather(std::span<const std::span<std::byte>> blocks, const GiveUp&);
  void broadcast(std::span<std::byte> inout, int root, const GiveUp&);
  void barrier(const GiveUp&);

 private:
  struct alignas(128) Flag {  // two lines: neighbours are fetched in pairs
    std::atomic<uint64_t> posts;
  };
  static_assert(std::atomic<uint64_t>::is_always_lock_free);

  void begin_turn();
  /// The half of this turn may be written when this returns.
  void wait_to_write(const GiveUp&);
  void post();
  /// Until the peer has posted as often as this rank.
  void wait_for(int peer, const GiveUp&);
  void wait_for_all(const GiveUp&);
  void wait_for_posts(int peer, uint64_t posts, const GiveUp&);

  std::byte* area(int rank) const;
  /// The peers in the order to visit them: each rank starts at its right neighbour, so that nobody is mobbed.
  int peer_at(int distance) const { return (rank_ + distance) % size_; }

  void all_reduce_at_once(std::byte* inout, int64_t count, DType, Reduce, const GiveUp&);
  void all_reduce_turn(std::byte* inout, int64_t count, DType, Reduce, const GiveUp&);

  const SharedSegment segment_;
  const int rank_, size_;
  const size_t half_bytes_, slot_bytes_;  ///< of an area; of the part of a half that one rank's share of a sum takes
  const Seconds timeout_;
  Flag* const flags_;
  uint64_t turn_ = 0;
  uint64_t posts_ = 0;                           ///< mine
  uint64_t first_post_ = 0, previous_post_ = 0;  ///< that this turn and the one before begin with
  std::vector<const std::byte*> pieces_;
};

}  // namespace trident
