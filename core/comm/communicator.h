// Communicator: one axis of the grid. Size 1 is the identity, so nobody writes `if (tp > 1)`.
//
// Policy: every call is ordered on the stream given; every rank of the group calls the same operations in the same
// order per communicator. Reductions add in rank order, element by element, with f32 (f64 for f64) accumulation and one
// rounding at the end, so that all_reduce and reduce_scatter + all_gather give the same bits and every run repeats.
// (NCCL, for tensors in device memory, has an order of its own, rounds 16-bit sums at every hop, and its maximum may
// drop a NaN, which ours keeps: nobody may rely on it. The head's maxima don't: a NaN logit reaches the loss by its
// sum.) Every wait has the group's timeout; when it passes, the job ends with one line naming the missing ranks, the
// collective, the step and the layer (see Ledger).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/stream.h"
#include "core/base/tensor.h"

namespace trident {

enum class Reduce : uint8_t { sum, max };

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;  ///< this rank's position in the group
  virtual int size() const = 0;
  virtual std::string_view axis() const = 0;  ///< "tensor", "data", ... for messages
  /// What collectives go through: "shared memory", "MPI", "NCCL"; empty where nothing travels.
  virtual std::string_view transport() const { return {}; }

  /// inout = reduction over the group, same bits on every rank. f32, bf16, f16, f64, i64 (i64: exact).
  virtual void all_reduce(Tensor inout, Reduce, Stream) = 0;
  /// shard = this rank's part of the reduction of `full`; full.numel() == size() * shard.numel(), parts in rank order.
  /// `shard` may be this rank's part of `full` (in place).
  virtual void reduce_scatter(Tensor shard, Tensor full, Reduce, Stream) = 0;
  /// full = the shards of all ranks in order. `shard` may be this rank's part of `full` (in place).
  virtual void all_gather(Tensor full, Tensor shard, Stream) = 0;
  virtual void broadcast(Tensor inout, int root, Stream) = 0;

  /// Point to point inside the group, matched by (peer, tag). A send may return before it is received, but the tensor
  /// must stay unchanged until the stream has passed it. Between two ranks, messages whose tags have the same parity
  /// are received in the order sent: NCCL knows no tags and has a lane for each parity.
  virtual void send(Tensor, int peer, int tag, Stream) = 0;
  virtual void recv(Tensor, int peer, int tag, Stream) = 0;

  /// Blocking, for control data on the host: every rank's bytes, in rank order, at every rank.
  virtual std::vector<std::vector<std::byte>> all_gather_bytes(std::span<const std::byte> mine) = 0;
  virtual void barrier() = 0;
};

/// The group of one: every operation is a copy or nothing.
std::unique_ptr<Communicator> make_self_communicator(std::string_view axis);

}  // namespace trident
