// AllocationTable: what a device has allocated, by name, and the limit it keeps. A device that has none of its own
// (a processor), or one that must behave like a smaller one, is limited by the config: memory.device_limit.
#pragma once

#include <cstddef>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"

namespace trident {

class AllocationTable {
 public:
  /// `device_limit`: bytes that may be allocated at Place::device at a time; 0 is no limit.
  explicit AllocationTable(size_t device_limit = 0) : device_limit_(device_limit) {}
  AllocationTable(const AllocationTable&) = delete;
  AllocationTable& operator=(const AllocationTable&) = delete;

  /// Throws RunError with the table when the limit leaves no room for `bytes` more.
  void check_limit(size_t bytes, Place, std::string_view name) const;
  /// Enters memory that was just allocated; `free` is called, and the line removed, when the Memory goes. The table
  /// outlives it.
  Memory own(void* data, size_t bytes, Place, std::string_view name, Memory::Free free);

  /// In order of allocation.
  std::vector<Allocation> lines() const;
  /// "no memory for 3.0 GiB of 'scratch' <where>. Allocated so far by this rank: <the table> <remedy>"
  std::string no_room(size_t bytes, std::string_view name, const std::string& where) const;

 private:
  const size_t device_limit_;
  mutable std::mutex mutex_;
  std::list<Allocation> lines_;
};

}  // namespace trident
