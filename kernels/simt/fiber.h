// Fibers: a stack each, and a switch between them (System V x86-64).
//
// The switch is inline code without a call or a return, so that the processor's return predictor stays in step: the
// lanes of a warp wait at the same place, and the returns of the one that wakes are those the other one pushed.
// ucontext costs two system calls, a switch function that is called mispredicts every return after it (25 ns instead of
// 3).
#pragma once

#include <cstddef>
#include <string>

#include "kernels/simt/block.h"

namespace simt {

constexpr int kMaxThreads = 1024;
constexpr size_t kStackBytes = size_t{256} << 10;

/// Saves the running context at *save and goes on with `load`.
[[gnu::always_inline]] inline void switch_stacks(void** save, void* load) {
  asm volatile(
      "leaq -128(%%rsp), %%rsp\n\t"  // past the red zone
      "pushq %%rbp\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%0)\n\t"
      "movq %1, %%rsp\n\t"
      "popq %%rax\n\t"
      "jmp *%%rax\n"
      "1:\n\t"
      "popq %%rbp\n\t"
      "leaq 128(%%rsp), %%rsp"
      : "+D"(save), "+S"(load)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2",
        "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
#ifdef __AVX512F__
        "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",
        "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7",
#endif
        "cc", "memory");
}

/// Makes all stacks free. At the begin of every block: an aborted one leaves fibers behind.
void reset_stacks();
/// Gives a fresh fiber a stack on which it will begin with `entry`.
void prepare_fiber(Fiber& fiber, void (*entry)());
/// Takes the stack of a fiber that is done. The next fresh fiber gets it, warm in the cache.
void release_stack(Fiber& fiber);

bool on_stack(const void* p);
bool on_own_stack(const void* p, const Fiber& fiber);
/// Whether an address lies in the page below a stack that catches overflows.
bool on_guard_page(const void* p);

/// While one lives, a memory fault on a fiber of this thread becomes a report; other faults go to the handler before.
class FaultGuard {
 public:
  FaultGuard();
  ~FaultGuard();
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
};

}  // namespace simt
