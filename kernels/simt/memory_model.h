// The check that every access of a kernel goes through: hooks and intrinsics end here.
#pragma once

#include <cstddef>

#include "kernels/simt/block.h"

namespace simt {

/// What a report says about an access.
struct AccessSite {
  const char* what;              // "load", "ld128", ...
  const Loc* loc;                // of the intrinsic, null for hooks
  const void* pc;                // return address into the kernel, null when unknown
  const Fiber* fiber = nullptr;  // null: the running one
  bool counted = true;           // in the counters of counters.h
};

/// Checks an access of a kernel's thread against bounds, initialisation, races and copies in flight, and ends the
/// launch with a report when it is wrong. In fast mode only the bounds of device memory are checked.
void check_kernel_access(const void* p, size_t bytes, AccessKind access, const AccessSite& site);
/// The same for an instrumented load or store on any thread, kernel or not.
void check_hooked_access(const void* p, size_t bytes, AccessKind access, const char* what, const void* pc);

void begin_launch_memory();
void begin_block_memory();
void end_block_memory();
void end_launch_memory();

/// Accesses of host code to device memory seen by the hooks; each is also printed to stderr, up to five.
extern int host_errors;

}  // namespace simt
