// The stacks and the fault handler. Compiled without instrumentation.
#include "kernels/simt/fiber.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <numeric>

#include "core/base/error.h"
#include "kernels/simt/report.h"

namespace simt {
namespace {

constexpr size_t kGuardBytes = 4096;
char* stacks = nullptr;
std::vector<int> free_stacks;

void map_stacks() {
  void* mapped = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw trident::RunError("simt: no address space for the stacks of 1024 emulated threads");
  stacks = static_cast<char*>(mapped);
  for (int i = 0; i < kMaxThreads; ++i) mprotect(stacks + i * kStackBytes, kGuardBytes, PROT_NONE);
}

}  // namespace

void reset_stacks() {
  if (stacks == nullptr) map_stacks();
  free_stacks.resize(kMaxThreads);
  std::iota(free_stacks.rbegin(), free_stacks.rend(), 0);
}

void prepare_fiber(Fiber& fiber, void (*entry)()) {
  fiber.stack = free_stacks.back();
  free_stacks.pop_back();
  // Staggered: equal offsets in all stacks would share a few cache sets.
  char* top = stacks + (fiber.stack + 1) * kStackBytes - (fiber.stack % 61) * 128;
  void** frame = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--frame = nullptr;
  *--frame = reinterpret_cast<void*>(entry);  // where the switch jumps to, with the stack as after a call
  fiber.stack_pointer = frame;
}

void release_stack(Fiber& fiber) { free_stacks.push_back(fiber.stack); }

bool on_stack(const void* p) {
  const char* c = static_cast<const char*>(p);
  return c >= stacks && c < stacks + kStackBytes * kMaxThreads;
}

bool on_own_stack(const void* p, const Fiber& fiber) {
  const char* begin = stacks + fiber.stack * kStackBytes;
  return static_cast<size_t>(static_cast<const char*>(p) - begin) < kStackBytes;
}

bool on_guard_page(const void* p) {
  return on_stack(p) && static_cast<size_t>(static_cast<const char*>(p) - stacks) % kStackBytes < kGuardBytes;
}

namespace {

void* fault_address;
void* fault_pc;
alignas(64) char signal_stack[1 << 16];
alignas(64) char landing_stack[1 << 16];  // the faulting fiber is lost, and its stack may be what overflowed
stack_t previous_stack;
struct sigaction previous_segv, previous_bus;

[[noreturn]] void fault_landing() {
  char text[96];
  if (on_guard_page(fault_address)) {
    std::snprintf(text, sizeof text, "kernel stack overflow (local arrays above 256 KB or endless recursion)");
  } else if (fault_address == nullptr) {  // what the processor reports for movaps and for non-canonical addresses
    std::snprintf(text, sizeof text, "misaligned vector access or wild pointer");
  } else {
    std::snprintf(text, sizeof text, "invalid address %p", fault_address);
  }
  fail(text, nullptr, static_cast<char*>(fault_pc) + 1);
}

/// A fault that is not a kernel's: the handler before us decides, and may let the access go on.
void pass_on(int signal_number, siginfo_t* info, void* context) {
  const struct sigaction& previous = signal_number == SIGSEGV ? previous_segv : previous_bus;
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal_number, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal_number);
  } else {
    sigaction(signal_number, &previous, nullptr);  // the access is repeated and ends the process
  }
}

void on_fault(int signal_number, siginfo_t* info, void* context) {
  if (!builtins.on_fiber) {
    pass_on(signal_number, info, context);
    return;
  }
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  fault_address = info->si_addr;
  fault_pc = reinterpret_cast<void*>(registers[REG_RIP]);
  builtins.in_kernel = false;
  const uintptr_t top = reinterpret_cast<uintptr_t>(landing_stack) + sizeof landing_stack - 64;
  registers[REG_RIP] = reinterpret_cast<greg_t>(&fault_landing);
  registers[REG_RSP] = static_cast<greg_t>((top & ~uintptr_t{15}) - 8);
}

}  // namespace

FaultGuard::FaultGuard() {
  stack_t alternate{};
  alternate.ss_sp = signal_stack;
  alternate.ss_size = sizeof signal_stack;
  sigaltstack(&alternate, &previous_stack);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &previous_segv);
  sigaction(SIGBUS, &action, &previous_bus);
}

FaultGuard::~FaultGuard() {
  sigaction(SIGSEGV, &previous_segv, nullptr);
  sigaction(SIGBUS, &previous_bus, nullptr);
  sigaltstack(&previous_stack, nullptr);
}

}  // namespace simt
