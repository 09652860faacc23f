#include "kernels/simt/pinned.h"

#include <sys/mman.h>
#include <unistd.h>

namespace simt {
namespace {

const uintptr_t kPage = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));

uintptr_t page_floor(uintptr_t x) { return x / kPage * kPage; }
uintptr_t page_ceil(uintptr_t x) { return page_floor(x + kPage - 1); }
void* as_pointer(uintptr_t x) { return reinterpret_cast<void*>(x); }

}  // namespace

void* Pinned::allocate(size_t bytes) {
  const size_t mapped = page_ceil(bytes);
  const int file = memfd_create("simt-pinned", 0);
  if (file < 0) return nullptr;
  void *host = MAP_FAILED, *device = MAP_FAILED;
  if (ftruncate(file, static_cast<off_t>(mapped)) == 0) {
    host = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    device = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);
  if (host == MAP_FAILED || device == MAP_FAILED) return nullptr;
  blocks_[reinterpret_cast<uintptr_t>(host)] = {bytes, mapped, static_cast<char*>(device), {}};
  return host;
}

bool Pinned::free(void* address) {
  const auto at = blocks_.find(reinterpret_cast<uintptr_t>(address));
  if (at == blocks_.end()) return false;
  munmap(at->second.device, at->second.mapped);
  mmap(address, at->second.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  freed_[at->first] = at->first + at->second.mapped;
  blocks_.erase(at);
  return true;
}

const Pinned::Block* Pinned::find(uintptr_t address) const {
  auto at = blocks_.upper_bound(address);
  if (at == blocks_.begin()) return nullptr;
  --at;
  return address < at->first + at->second.mapped ? &at->second : nullptr;
}

size_t Pinned::extent(const void* address) const {
  const auto a = reinterpret_cast<uintptr_t>(address);
  auto at = blocks_.upper_bound(a);
  if (at == blocks_.begin()) return 0;
  --at;
  const uintptr_t end = at->first + at->second.bytes;
  return a < end ? end - a : 0;
}

void* Pinned::device_view(const void* address) const {
  const auto a = reinterpret_cast<uintptr_t>(address);
  const auto at = std::prev(blocks_.upper_bound(a));
  return at->second.device + (a - at->first);
}

bool Pinned::was_freed(uintptr_t address) const {
  auto at = freed_.upper_bound(address);
  return at != freed_.begin() && address < std::prev(at)->second;
}

void Pinned::protect(uintptr_t base, const Block& block) {
  mprotect(as_pointer(base), block.mapped, PROT_READ | PROT_WRITE);
  // Writers last: the stricter one wins on a page that both use.
  for (const bool write : {false, true}) {
    for (const Use& use : block.uses) {
      if (use.write != write) continue;
      const uintptr_t begin = page_floor(use.begin);
      mprotect(as_pointer(begin), page_ceil(use.end) - begin, write ? PROT_NONE : PROT_READ);
    }
  }
}

void Pinned::begin(const void* address, size_t bytes, bool write, const Op& op) {
  const auto a = reinterpret_cast<uintptr_t>(address);
  const auto at = std::prev(blocks_.upper_bound(a));
  at->second.uses.push_back({a, a + bytes, write, op});
  protect(at->first, at->second);
}

void Pinned::end(const Clock& clock) {
  for (auto& [base, block] : blocks_) {
    const size_t ended = std::erase_if(block.uses, [&](const Use& use) { return covered(*use.op, clock); });
    if (ended > 0) protect(base, block);
  }
}

std::optional<Op> Pinned::host_fault(uintptr_t address, bool write) {
  const Block* block = find(address);
  if (block == nullptr) return std::nullopt;
  mprotect(as_pointer(page_floor(address)), kPage, PROT_READ | PROT_WRITE);
  for (const Use& use : block->uses) {
    if (address >= use.begin && address < use.end && (write || use.write)) return use.op;
  }
  return Op();
}

}  // namespace simt
