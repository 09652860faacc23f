// cp.async: the destination holds NaN from the issue to the wait, when the copy is really made, so that a kernel that
// waits too late or for too few groups computes nonsense in fast mode and is reported in checked mode. Compiled without
// instrumentation.
#include <cstring>

#include "kernels/simt/counting.h"
#include "kernels/simt/memory_model.h"
#include "kernels/simt/report.h"
#include "kernels/simt/shared_memory.h"

namespace simt {

void copy_async(void* shared, const void* global, int bytes, bool valid, const Loc& loc) {
  RuntimeScope scope;
  const void* pc = __builtin_return_address(0);
  const size_t n = static_cast<size_t>(bytes);
  if (reinterpret_cast<uintptr_t>(shared) % n != 0) fail("cp.async: misaligned shared address", &loc, pc);
  if (valid && reinterpret_cast<uintptr_t>(global) % n != 0) fail("cp.async: misaligned global address", &loc, pc);
  if (!is_shared(shared, n)) fail("cp.async: destination is not in shared memory", &loc, pc);
  if (valid) check_kernel_access(global, n, AccessKind::read, {"cp.async source", &loc, pc});
  check_kernel_access(shared, n, AccessKind::write, {"cp.async destination", &loc, pc});
  std::memset(shared, 0xFF, n);
  set_in_flight(shared, bytes, true);
  Fiber& fiber = *blk.cur;
  fiber.copies.push_back({shared, global, bytes, valid, fiber.copy_group});
  count_async_copy();
}

void commit_copies() { ++blk.cur->copy_group; }

void wait_copies(int left, const Loc& loc) {
  RuntimeScope scope;
  const void* pc = __builtin_return_address(0);
  Fiber& fiber = *blk.cur;
  const int finished = fiber.copy_group - left;
  auto copy = fiber.copies.begin();
  for (; copy != fiber.copies.end() && copy->group < finished; ++copy) {
    const size_t n = static_cast<size_t>(copy->bytes);
    if (checked) {
      set_in_flight(copy->shared, copy->bytes, false);
      check_kernel_access(copy->shared, n, AccessKind::write, {"cp.async completion", &loc, pc, nullptr, false});
    }
    if (copy->valid) {
      std::memcpy(copy->shared, copy->global, n);
    } else {
      std::memset(copy->shared, 0, n);
    }
  }
  fiber.copies.erase(fiber.copies.begin(), copy);
}

}  // namespace simt
