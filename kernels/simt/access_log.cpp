// The log of the warp that runs. Compiled without instrumentation.
//
// Per instruction and lane it counts executions; the k-th of every lane goes into the k-th group of the instruction.
#include "kernels/simt/access_log.h"

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <vector>

#include "kernels/simt/counting.h"

namespace simt {
namespace {

constexpr uintptr_t kSector = 32, kWord = 4;
constexpr size_t kMostGroups = 1 << 18;  // a kernel without steps is counted in pieces

struct Instruction {
  Space space = Space::global;
  AccessKind access = AccessKind::read;
  size_t bytes = 0;
  std::array<uint32_t, 32> executions{};  // by lane, in this step
  std::vector<WarpAccess> groups;         // of this step
};

std::unordered_map<const void*, size_t> index_of_site;
std::vector<Instruction> instructions;
std::vector<size_t> used;  // in this step
size_t groups_held = 0;

struct RecentSite {
  const void* site = nullptr;
  size_t index = 0;
};
std::array<RecentSite, 1024> recent;  // most look-ups end here

size_t find_instruction(const void* site) {
  RecentSite& slot = recent[reinterpret_cast<uintptr_t>(site) % recent.size()];
  if (slot.site != site) {
    const auto [found, fresh] = index_of_site.try_emplace(site, instructions.size());
    if (fresh) instructions.emplace_back();
    slot = {site, found->second};
  }
  return slot.index;
}

void count_group(const Instruction& instruction, const WarpAccess& group) {
  if (instruction.space == Space::shared) {
    const Wavefronts w = wavefronts(group, instruction.bytes);
    ++counting->shared.accesses;
    counting->shared.wavefronts += w.needed;
    counting->shared.ideal_wavefronts += w.ideal;
    return;
  }
  Traffic& traffic = instruction.access == AccessKind::read ? counting->loads : counting->stores;
  const Sectors s = sectors(group, instruction.bytes);
  ++traffic.accesses;
  traffic.bytes += instruction.bytes * static_cast<uint64_t>(std::popcount(group.lanes));
  traffic.sectors += s.touched;
  traffic.ideal_sectors += s.ideal;
}

void finish_step() {
  for (size_t index : used) {
    Instruction& instruction = instructions[index];
    for (const WarpAccess& group : instruction.groups) count_group(instruction, group);
    instruction.groups.clear();
    instruction.executions.fill(0);
  }
  used.clear();
  groups_held = 0;
}

}  // namespace

void log_access(Space space, const void* site, unsigned lane, const void* p, size_t bytes, AccessKind access) {
  // One instruction may reach both spaces through a generic pointer, and an intrinsic both loads and stores.
  const char* key = static_cast<const char*>(site) + (space == Space::shared ? 0x100000000 : 0) +
                    (access == AccessKind::read ? 0 : 0x200000000);
  const size_t index = find_instruction(key);
  Instruction& instruction = instructions[index];
  if (instruction.groups.empty()) {
    instruction.space = space;
    instruction.access = access;
    instruction.bytes = bytes;
    used.push_back(index);
  }
  const uint32_t k = instruction.executions[lane]++;
  if (k == instruction.groups.size()) {
    instruction.groups.emplace_back();
    ++groups_held;
  }
  WarpAccess& group = instruction.groups[k];
  group.lanes |= 1u << lane;
  group.address[lane] = reinterpret_cast<uintptr_t>(p);
  if (groups_held >= kMostGroups) finish_step();
}

void log_end_of_step(const Warp&) {
  if (!used.empty()) finish_step();
}

void log_reset() {
  for (size_t index : used) {
    instructions[index].groups.clear();
    instructions[index].executions.fill(0);
  }
  used.clear();
  groups_held = 0;
}

Wavefronts wavefronts(const WarpAccess& access, size_t bytes) {
  const unsigned lanes_in_phase = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
  Wavefronts result;
  for (unsigned first = 0; first < 32; first += lanes_in_phase) {
    std::array<std::array<uintptr_t, 64>, 32> words_of_bank;  // different ones; a lane touches a bank at most twice
    std::array<uint8_t, 32> count{};
    unsigned most = 0;
    for (unsigned lane = first; lane < first + lanes_in_phase; ++lane) {
      if ((access.lanes >> lane & 1) == 0) continue;
      const uintptr_t last = (access.address[lane] + bytes - 1) / kWord;
      for (uintptr_t word = access.address[lane] / kWord; word <= last; ++word) {
        auto& words = words_of_bank[word % 32];
        uint8_t& n = count[word % 32];
        if (std::find(words.begin(), words.begin() + n, word) == words.begin() + n) words[n++] = word;
        most = std::max<unsigned>(most, n);
      }
    }
    result.needed += most;
    result.ideal += most > 0;
  }
  return result;
}

Sectors sectors(const WarpAccess& access, size_t bytes) {
  std::array<uintptr_t, 32> sorted;
  size_t n = 0;
  for (uint32_t lanes = access.lanes; lanes != 0; lanes &= lanes - 1) {
    sorted[n++] = access.address[static_cast<size_t>(std::countr_zero(lanes))];
  }
  if (!std::is_sorted(sorted.begin(), sorted.begin() + n)) std::sort(sorted.begin(), sorted.begin() + n);
  Sectors result;
  uintptr_t covered_to = 0, next_sector = 0;
  uint64_t different_bytes = 0;
  for (size_t i = 0; i < n; ++i) {
    const uintptr_t end = sorted[i] + bytes;
    different_bytes += end - std::min(end, std::max(covered_to, sorted[i]));
    covered_to = std::max(covered_to, end);
    const uintptr_t first = std::max(next_sector, sorted[i] / kSector), behind = (end - 1) / kSector + 1;
    if (behind > first) result.touched += behind - first;
    next_sector = std::max(next_sector, behind);
  }
  result.ideal = (different_bytes + kSector - 1) / kSector;
  return result;
}

}  // namespace simt
