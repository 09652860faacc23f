// The memory model. Compiled without instrumentation.
#include "kernels/simt/memory_model.h"

#include <cstdio>
#include <cstring>

#include "core/base/error.h"
#include "kernels/simt/access_log.h"
#include "kernels/simt/counting.h"
#include "kernels/simt/device_memory.h"
#include "kernels/simt/fiber.h"
#include "kernels/simt/report.h"
#include "kernels/simt/shared_memory.h"

namespace simt {

bool checked = false;
int host_errors = 0;

namespace {

[[noreturn]] void reject(const std::string& what, const AccessSite& site) {
  fail(trident::build_string(what, " (", site.what, ")"), site.loc, site.pc, site.fiber);
}

void check_bytes(size_t offset, size_t bytes, AccessKind access, const AccessSite& site) {
  for (size_t i = 0; i < bytes; ++i) {
    const uint8_t state = heap::state[offset + i];
    if (state == heap::kOutside) {
      reject(access == AccessKind::read ? "out-of-bounds global read" : "out-of-bounds global write", site);
    }
    if (state == heap::kFreed) reject("use of freed device memory", site);
    if (checked && access != AccessKind::write && (state & heap::kInitialised) == 0) {
      reject("read of uninitialised global memory", site);
    }
    if (access != AccessKind::read) heap::state[offset + i] |= heap::kInitialised;
  }
}

void check_global_races(size_t offset, size_t bytes, AccessKind access, const AccessSite& site, const Fiber& fiber) {
  const RaceTag now = global_tag(heap::operation_number(), fiber, access == AccessKind::atomic);
  const auto demand_order = [&](RaceTag before, const char* kind) {
    const heap::Race race = heap::race_between(before, now);
    if (race != heap::Race::none) reject(std::string(heap::race_name(race)) + kind, site);
  };
  const auto first_touch = [&](RaceTag before) { return before >> kOperationShift != now >> kOperationShift; };
  for (size_t cell = offset / 2; cell <= (offset + bytes - 1) / 2; ++cell) {
    RaceTag &written = heap::writes[cell], &read = heap::reads[cell];
    demand_order(written, access == AccessKind::read ? "read after write" : "write after write");
    if (access == AccessKind::read) {
      if (first_touch(read)) count_unique(AccessKind::read, 2);
      note_read(read, now);
    } else {
      demand_order(read, "write after read");
      if (first_touch(written)) count_unique(AccessKind::write, 2);
      written = now;
    }
  }
}

void check_shared(const void* p, SharedCell* cells, size_t bytes, AccessKind access, const AccessSite& site,
                  const Fiber& fiber) {
  if (is_dynamic_shared(p)) {
    const size_t offset = static_cast<size_t>(static_cast<const char*>(p) - static_cast<char*>(dynamic_shared()));
    if (offset + bytes > blk.smem) reject("out-of-bounds dynamic shared memory", site);
  }
  const RaceTag now = shared_tag(fiber, access == AccessKind::atomic);
  for (size_t i = 0; i < bytes; ++i) {
    SharedCell& cell = refreshed(cells[i]);
    if (cell.in_flight) reject("access to shared memory with a cp.async in flight (missing wait_group)", site);
    if (access != AccessKind::write && cell.write == 0) reject("read of uninitialised shared memory", site);
    if (threads_race(cell.write, now)) {
      reject(access == AccessKind::read ? "shared race: read after write" : "shared race: write after write", site);
    }
    if (access == AccessKind::read) {
      note_read(cell.read, now);
    } else {
      if (threads_race(cell.read, now)) reject("shared race: write after read", site);
      cell.write = now;
    }
  }
}

void check_other(const void* p, const AccessSite& site) {
  if (on_stack(p)) reject("kernel dereferences a local variable of another thread", site);
  if (in_kernel_image(p)) return;
  const size_t parameter =
      static_cast<size_t>(static_cast<const char*>(p) - static_cast<char*>(blk.info->params.get()));
  if (parameter < blk.info->params_size) return;
  reject("kernel dereferences host memory", site);
}

}  // namespace

void check_kernel_access(const void* p, size_t bytes, AccessKind access, const AccessSite& site) {
  const Fiber& fiber = site.fiber != nullptr ? *site.fiber : *blk.cur;
  Space space = Space::global;
  if (dev_contains(p)) {
    const size_t offset = static_cast<size_t>(static_cast<const char*>(p) - heap::arena);
    check_bytes(offset, bytes, access, site);
    if (checked) check_global_races(offset, bytes, access, site, fiber);
  } else if (!checked || on_own_stack(p, fiber)) {
    return;
  } else if (SharedCell* cells = shared_cells(p)) {
    check_shared(p, cells, bytes, access, site, fiber);
    space = Space::shared;
  } else {
    check_other(p, site);
    return;
  }
  if (!checked || !opt.count_accesses || !site.counted) return;
  log_access(space, site.pc != nullptr ? site.pc : site.what, fiber.thread % 32u, p, bytes, access);
}

void check_hooked_access(const void* p, size_t bytes, AccessKind access, const char* what, const void* pc) {
  if (builtins.in_kernel) {
    RuntimeScope scope;
    check_kernel_access(p, bytes, access, {what, nullptr, pc});
  } else if (!builtins.on_fiber && dev_contains(p) && host_errors++ < 5) {
    const std::string place = place_of(pc);
    std::fprintf(stderr, "simt: host code dereferences device memory (%s at %s)\n", what, place.c_str());
  }
}

namespace {

void check_intrinsic(const void* p, size_t bytes, AccessKind access, const char* what, const Loc& loc, const void* pc) {
  if (reinterpret_cast<uintptr_t>(p) % bytes != 0) {
    fail(trident::build_string("misaligned ", what, " (", bytes, "-byte)"), &loc, pc);
  }
  check_kernel_access(p, bytes, access, {what, &loc, pc});
}

}  // namespace

void check_access(const void* p, size_t bytes, AccessKind access, const char* what, const Loc& loc) {
  RuntimeScope scope;
  check_intrinsic(p, bytes, access, what, loc, __builtin_return_address(0));
}

void load_checked(void* to, const void* p, size_t bytes, const char* what, const Loc& loc) {
  RuntimeScope scope;
  check_intrinsic(p, bytes, AccessKind::read, what, loc, __builtin_return_address(0));
  std::memcpy(to, p, bytes);
}

void store_checked(void* p, const void* from, size_t bytes, const char* what, const Loc& loc) {
  RuntimeScope scope;
  check_intrinsic(p, bytes, AccessKind::write, what, loc, __builtin_return_address(0));
  std::memcpy(p, from, bytes);
}

void copy_unchecked(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

void begin_launch_memory() {
  heap::begin_launch();
  find_kernel_module(blk.info->func);
}

void begin_block_memory() { begin_shared_block(); }

void end_block_memory() {
  if (checked) end_shared_block();
}

void end_launch_memory() {
  heap::check_red_zones();
  if (checked) count_static_shared(static_shared_bytes());
}

}  // namespace simt
