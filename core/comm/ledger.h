// Ledger: what this rank is doing, for the message of a collective that never ends, and what it has sent, by axis and
// operation, for metrics and for tests that hold volume against theory. One per rank, shared by its communicators.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace trident {

class Ledger {
 public:
  /// Says where in the step this rank is ("forward", block 3, micro-batch 1). Cheap: called before every block.
  void at(int64_t step, std::string_view phase, int block, int micro);

  /// Called by communicators around every operation. `bytes`: what this rank sends when the operation runs as a ring
  /// over a group of n: all_reduce 2 (n-1)/n of the tensor, reduce_scatter and all_gather (n-1)/n of the full tensor,
  /// broadcast and send the tensor (at the sender). Returns the operation's number on the axis, from 1.
  int64_t begin(std::string_view axis, std::string_view operation, size_t bytes);
  void end(std::string_view axis, std::string_view operation);

  /// "step 12, backward of block 3, micro-batch 1, in all_reduce #41 on tensor for 31.2 s" (or "computing").
  std::string describe() const;
  /// The first part of it: "step 12, backward of block 3, micro-batch 1".
  std::string place() const;

  struct Volume {
    int64_t calls = 0;
    int64_t bytes = 0;
  };
  /// Totals since the start, keyed "axis.operation".
  std::map<std::string, Volume> volumes() const;
  int64_t bytes() const;
  int64_t step() const;

 private:
  std::string place_locked() const;

  mutable std::mutex mutex_;
  int64_t step_ = 0;
  std::string phase_ = "start";
  int block_ = -1, micro_ = -1;
  std::map<std::string, double> running_since_;  ///< seconds of the steady clock, keyed like volumes_
  std::map<std::string, Volume> volumes_;
};

}  // namespace trident
