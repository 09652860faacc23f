// Happens-before between operations, by vector clocks: one entry per stream, the number of the last operation of that
// stream known to come before. Streams, event waits and host waits are the only edges, so two operations that no such
// edge orders are found whatever order they happened to run in.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace simt {

using Clock = std::vector<uint32_t>;

/// into = the elementwise maximum.
void merge(Clock& into, const Clock& from);

/// An operation's place in the order.
struct OpInfo {
  uint64_t id = 0;        // of the process, in order of submission
  uint32_t stream = 0;    // the entry of the clock that it advances
  uint32_t step = 0;      // its number within that entry
  const char* name = "";  // kept by whoever gave it
  bool kernel = false;
  Clock clock;  // what comes before it, and itself
};
using Op = std::shared_ptr<const OpInfo>;

/// "cudaMemcpyAsync (operation 12 on stream 2)".
std::string describe(const OpInfo&);

/// Whether `earlier` comes before everything that knows `clock`.
inline bool covered(const OpInfo& earlier, const Clock& clock) {
  return earlier.stream < clock.size() && clock[earlier.stream] >= earlier.step;
}
inline bool ordered(const OpInfo& earlier, const OpInfo& later) { return covered(earlier, later.clock); }

/// Who last wrote and read each byte of device and pinned memory, among operations whose ranges are known when they are
/// submitted: copies, memsets, NCCL. (Kernels are watched access by access, by the core, in the checked build.)
class Regions {
 public:
  struct Conflict {
    Op earlier;
    bool earlier_writes;
  };
  /// Notes that `op` touches [begin, end); the first earlier toucher that `op` is not ordered after, if any.
  std::optional<Conflict> touch(uintptr_t begin, uintptr_t end, bool write, const Op& op);
  /// Who last wrote the byte; null when nobody known.
  Op writer_of(uintptr_t address) const;
  /// Forgets a range that was freed.
  void forget(uintptr_t begin, uintptr_t end);
  /// Forgets all that happened before everything which knows `clock`: it can race with nothing new.
  void prune(const Clock& clock);

 private:
  struct Span {
    uintptr_t end;
    Op writer;
    std::vector<Op> readers;  // the last one of each stream
  };
  void split(uintptr_t at);

  std::map<uintptr_t, Span> spans_;  // by begin; disjoint
};

}  // namespace simt
