// Pinned host memory, guarded against the host while a copy that uses it is unfinished.
//
// A block is one memory file mapped twice. The host's view is made read-only where an unfinished copy reads and
// inaccessible where one writes, so that a write too early or a read too early faults whatever the policy, even when
// the copy itself ran long ago: "unfinished" means that the host has not waited for it. The device thread uses the
// other view. Pages are coarser than copies; a fault beside the copy's bytes opens the page and is no fault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "kernels/simt/clocks.h"

namespace simt {

class Pinned {
 public:
  /// Page-aligned memory of `bytes` > 0; null when there is none.
  void* allocate(size_t bytes);
  /// False when the address is not a block's beginning. The range stays reserved: a later use faults.
  bool free(void* address);

  bool contains(const void* address) const { return find(reinterpret_cast<uintptr_t>(address)) != nullptr; }
  /// Bytes from the address to the end of its block, 0 outside of all.
  size_t extent(const void* address) const;
  /// The device thread's view of the address.
  void* device_view(const void* address) const;
  bool was_freed(uintptr_t address) const;

  /// `op` reads or writes the range from now on.
  void begin(const void* address, size_t bytes, bool write, const Op& op);
  /// Opens what is used only by operations that come before `clock`.
  void end(const Clock& clock);

  /// An access of the host that faulted: nullopt when the memory is not ours; an operation when one forbids it; null
  /// when none does (a neighbour on the page). The page is open afterwards.
  std::optional<Op> host_fault(uintptr_t address, bool write);

 private:
  struct Use {
    uintptr_t begin, end;
    bool write;
    Op op;
  };
  struct Block {
    size_t bytes, mapped;
    char* device;
    std::vector<Use> uses;
  };
  const Block* find(uintptr_t address) const;
  static void protect(uintptr_t base, const Block&);

  std::map<uintptr_t, Block> blocks_;     // by the host's address
  std::map<uintptr_t, uintptr_t> freed_;  // begin -> end
};

}  // namespace simt
