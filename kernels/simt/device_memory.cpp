// The heap. Compiled without instrumentation.
#include "kernels/simt/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "core/base/error.h"

namespace simt {

bool (*ops_ordered)(uint64_t, uint64_t) = nullptr;
HeapView heap_view;

namespace heap {
char* arena = nullptr;
uint8_t* state = nullptr;
RaceTag *writes = nullptr, *reads = nullptr;
}  // namespace heap

namespace {

using trident::build_string;

constexpr size_t kArenaBytes = size_t{4} << 30;
constexpr size_t kAlignment = 256, kRedZone = 256, kPage = 4096;
constexpr int kPoison = 0xFF;  // a NaN in every float format
constexpr int kRedZoneByte = 0xA5;

std::mutex heap_mutex;
std::map<uintptr_t, size_t> allocations;  // begin -> bytes
size_t cursor = kPage;                    // where the next allocation is tried
size_t high_water = kPage;

// What dev_expose opens: from a little below the lowest live allocation. Opening everything that was ever used would
// cost more with every allocation.
constexpr size_t kKeptOpen = size_t{1} << 20;
size_t window_low = 0, opened_begin = 0, opened_end = 0;

uint64_t window_begin = 0;  // operation_number() - 1 is relative to it

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    throw trident::RunError(build_string("simt: cannot reserve ", bytes >> 30, " GB of address space (ulimit -v?)"));
  }
  return p;
}

void reserve_arena() {
  if (heap::arena == nullptr) {
    heap::arena = static_cast<char*>(reserve(kArenaBytes));
    heap::state = static_cast<uint8_t*>(reserve(kArenaBytes));
    heap_view = {reinterpret_cast<uintptr_t>(heap::arena), kArenaBytes, heap::state};
  }
  if (checked && heap::writes == nullptr) {
    heap::writes = static_cast<RaceTag*>(reserve(kArenaBytes / 2 * sizeof(RaceTag)));
    heap::reads = static_cast<RaceTag*>(reserve(kArenaBytes / 2 * sizeof(RaceTag)));
  }
}

size_t page_down(size_t offset) { return offset / kPage * kPage; }
size_t page_up(size_t offset) { return page_down(offset + kPage - 1); }

void protect(size_t begin, size_t end, bool open) {
  if (begin < end) mprotect(heap::arena + begin, end - begin, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

size_t offset_of(const void* p) { return static_cast<size_t>(static_cast<const char*>(p) - heap::arena); }

/// The first offset at or behind `from` with `bytes` free bytes and a red zone on both sides; 0 when there is none.
size_t find_gap(size_t from, size_t bytes) {
  size_t begin = (from + kAlignment - 1) / kAlignment * kAlignment;
  const uintptr_t base = reinterpret_cast<uintptr_t>(heap::arena);
  auto after = allocations.upper_bound(base + begin);
  if (after != allocations.begin()) {
    const auto before = std::prev(after);
    const size_t end = before->first - base + before->second + kRedZone;
    if (end > begin) begin = (end + kAlignment - 1) / kAlignment * kAlignment;
  }
  for (; after != allocations.end(); ++after) {
    const size_t next = after->first - base;
    if (begin + bytes + kRedZone <= next) return begin;
    begin = (next + after->second + kRedZone + kAlignment - 1) / kAlignment * kAlignment;
  }
  return bytes < kArenaBytes && begin + bytes + kRedZone <= kArenaBytes ? begin : 0;
}

void clear_tags(size_t offset, size_t bytes) {
  if (heap::writes == nullptr) return;
  std::memset(heap::writes + offset / 2, 0, (bytes + 1) / 2 * sizeof(RaceTag));
  std::memset(heap::reads + offset / 2, 0, (bytes + 1) / 2 * sizeof(RaceTag));
}

/// Gives whole pages of a freed range back to the machine.
void drop_pages(void* begin, size_t bytes) {
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(begin) + bytes) / kPage * kPage;
  if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

}  // namespace

void* dev_alloc(size_t bytes) {
  const std::lock_guard lock(heap_mutex);
  reserve_arena();
  size_t offset = find_gap(cursor, bytes);
  if (offset == 0) offset = find_gap(kPage, bytes);  // only now are freed addresses used again
  if (offset == 0) return nullptr;
  cursor = offset + bytes + kRedZone;
  high_water = std::max(high_water, cursor);
  char* begin = heap::arena + offset;
  protect(page_down(offset), page_up(cursor), true);
  opened_begin = std::min(opened_begin, page_down(offset));
  opened_end = std::max(opened_end, page_up(cursor));
  std::memset(begin, kPoison, bytes);
  std::memset(begin + bytes, kRedZoneByte, kRedZone);
  std::memset(heap::state + offset, heap::kLive, bytes);
  std::memset(heap::state + offset + bytes, heap::kOutside, kRedZone);
  allocations[reinterpret_cast<uintptr_t>(begin)] = bytes;
  return begin;
}

void dev_free(void* p) {
  const std::lock_guard lock(heap_mutex);
  const auto found = allocations.find(reinterpret_cast<uintptr_t>(p));
  if (found == allocations.end()) throw Error("cudaFree: not an allocated pointer (double free?)");
  const size_t offset = offset_of(p), bytes = found->second;
  std::memset(heap::state + offset, heap::kFreed, bytes);
  std::memset(p, kPoison, std::min(bytes, size_t{64} << 10));
  clear_tags(offset, bytes);
  if (bytes > size_t{64} << 10) {
    drop_pages(p, bytes);
    if (heap::writes != nullptr) {
      drop_pages(heap::writes + offset / 2, bytes / 2 * sizeof(RaceTag));
      drop_pages(heap::reads + offset / 2, bytes / 2 * sizeof(RaceTag));
    }
  }
  allocations.erase(found);
}

bool dev_contains(const void* p) { return reinterpret_cast<uintptr_t>(p) - heap_view.begin < heap_view.bytes; }

size_t dev_extent(const void* p) {
  const std::lock_guard lock(heap_mutex);
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return 0;
  const auto [begin, bytes] = *std::prev(after);
  return address < begin + bytes ? begin + bytes - address : 0;
}

void dev_mark_init(const void* p, size_t bytes) {
  std::memset(heap::state + offset_of(p), heap::kLive | heap::kInitialised, bytes);
}

void dev_require(const void* p, size_t bytes, const char* what) {
  if (!dev_contains(p)) throw Error(build_string(what, ": ", p, " is not a device pointer"));
  const size_t extent = dev_extent(p);
  if (extent < bytes) {
    throw Error(build_string(what, ": range of ", bytes, " bytes exceeds the allocation, of which ", extent,
                             " bytes are left"));
  }
}

void dev_op_access(const void* p, size_t bytes, bool write, const char* what) {
  if (bytes == 0) return;
  dev_require(p, bytes, what);
  if (checked) {
    reserve_arena();
    const size_t offset = offset_of(p);
    const RaceTag now = heap::operation_number() << kOperationShift | 1;
    const auto demand_order = [&](RaceTag before, const char* kind) {
      if (heap::race_between(before, now) != heap::Race::operations) return;
      throw Error(build_string(what, ": ", heap::race_name(heap::Race::operations), kind));
    };
    for (size_t i = 0; !write && i < bytes; ++i) {
      if ((heap::state[offset + i] & heap::kInitialised) == 0) {
        throw Error(build_string(what, ": reads uninitialised device memory at byte ", i, " of ", bytes));
      }
    }
    for (size_t cell = offset / 2; cell <= (offset + bytes - 1) / 2; ++cell) {
      demand_order(heap::writes[cell], write ? "write after write" : "read after write");
      if (write) {
        demand_order(heap::reads[cell], "write after read");
        heap::writes[cell] = now;
      } else {
        heap::reads[cell] = now;
      }
    }
  }
  if (write) dev_mark_init(p, bytes);
}

void dev_expose(bool open) {
  const std::lock_guard lock(heap_mutex);
  reserve_arena();
  if (!open) {
    protect(opened_begin, opened_end, false);
    return;
  }
  const size_t lowest = allocations.empty() ? cursor : allocations.begin()->first - heap_view.begin;
  const size_t low = lowest > kKeptOpen + kPage ? page_down(lowest - kKeptOpen) : 0;
  if (low > window_low) {  // what lies behind is freed, and stays closed
    drop_pages(heap::arena + window_low, low - window_low);
    if (heap::writes != nullptr) {
      drop_pages(heap::writes + window_low / 2, (low - window_low) / 2 * sizeof(RaceTag));
      drop_pages(heap::reads + window_low / 2, (low - window_low) / 2 * sizeof(RaceTag));
    }
  }
  window_low = low;
  opened_begin = low;
  opened_end = page_up(high_water);
  protect(opened_begin, opened_end, true);
}

namespace heap {

uint64_t operation_number() {
  constexpr uint64_t kSlack = 4096;  // operations of several streams do not run in the order of their numbers
  if (blk.launch < window_begin || blk.launch - window_begin >= kOperations - 1) {
    // Numbers would wrap: forget who touched what, rather than take an old operation for this one.
    window_begin = blk.launch > kSlack ? blk.launch - kSlack : 0;
    if (writes != nullptr) {
      madvise(writes, kArenaBytes / 2 * sizeof(RaceTag), MADV_DONTNEED);
      madvise(reads, kArenaBytes / 2 * sizeof(RaceTag), MADV_DONTNEED);
    }
  }
  return blk.launch - window_begin + 1;
}

uint64_t operation_of(RaceTag tag) { return (tag >> kOperationShift) - 1 + window_begin; }

Race race_between(RaceTag before, RaceTag now) {
  if (before == 0 || both_atomic(before, now)) return Race::none;
  if (before >> kOperationShift != now >> kOperationShift) {
    if (ops_ordered == nullptr) return Race::none;
    static uint64_t last_before = 0, last_now = 0;  // neighbours in memory mostly ask the same
    static bool last_ordered = true;
    const uint64_t a = operation_of(before), b = operation_of(now);
    if (a != last_before || b != last_now) {
      last_before = a;
      last_now = b;
      last_ordered = ops_ordered(a, b);
    }
    return last_ordered ? Race::none : Race::operations;
  }
  if (before >> kBlockShift != now >> kBlockShift) return Race::threads;
  return threads_race(before, now) ? Race::threads : Race::none;
}

const char* race_name(Race race) {
  return race == Race::operations ? "stream race (no event orders the two operations): " : "global race: ";
}

void begin_launch() {
  reserve_arena();
  if (ops_ordered == nullptr) ++blk.launch;
}

void check_red_zones() {
  static const auto intact = [] {
    std::array<unsigned char, kRedZone> zone;
    zone.fill(kRedZoneByte);
    return zone;
  }();
  const std::lock_guard lock(heap_mutex);
  std::string report;
  for (const auto& [begin, bytes] : allocations) {
    auto* zone = reinterpret_cast<unsigned char*>(begin + bytes);
    if (std::memcmp(zone, intact.data(), kRedZone) == 0) continue;
    size_t at = 0;
    while (zone[at] == intact[at]) ++at;
    if (report.empty()) {
      report = build_string("red zone overwritten ", at, " bytes past an allocation of ", bytes, " bytes");
    }
    std::memset(zone, kRedZoneByte, kRedZone);
  }
  if (!report.empty()) throw Error(build_string(report, " [kernel ", blk.info->name, "]"));
}

}  // namespace heap
}  // namespace simt
