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

  /// Called by communicators around every operation; `bytes` as sent by this rank.
  void begin(std::string_view axis, std::string_view operation, size_t bytes);
  void end(std::string_view axis, std::string_view operation);

  /// "step 12, backward of block 3, micro-batch 1, in all_reduce #41 on tensor for 31.2 s" (or "computing").
  std::string describe() const;

  struct Volume {
    int64_t calls = 0;
    int64_t bytes = 0;
  };
  /// Totals since the start, keyed "axis.operation".
  std::map<std::string, Volume> volumes() const;
  int64_t bytes() const;
  int64_t step() const;

 private:
  mutable std::mutex mutex_;
  int64_t step_ = 0;
  std::string phase_ = "start";
  int block_ = -1, micro_ = -1;
  std::map<std::string, double> running_since_;
  std::map<std::string, Volume> volumes_;
};

}  // namespace trident
