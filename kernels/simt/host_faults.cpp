#include "kernels/simt/host_faults.h"

#include <signal.h>
#include <ucontext.h>

#include <atomic>

#include "core/base/error.h"
#include "kernels/simt/device_thread.h"
#include "kernels/simt/runtime.h"

namespace simt {
namespace {

struct sigaction g_next;  // whoever came before or between, e.g. a test framework
std::atomic<int> g_foreign_faults{0};

/// True when the fault was about the device's memory: reported, and the access may go on.
bool host_fault(uintptr_t address, bool write) {
  Gpu& gpu = Gpu::get();
  const char* const verb = write ? "writes" : "reads";
  std::string text;
  {
    Lock lock(gpu.mutex());
    const void* const pointer = reinterpret_cast<const void*>(address);
    if (dev_contains(pointer)) {
      text = trident::build_string("host code ", verb, " device memory at ", pointer);
      gpu.expose_for_host();
    } else if (const auto use = gpu.pinned().host_fault(address, write)) {
      if (!*use) return true;
      text = trident::build_string("host code ", verb, " pinned memory at ", pointer, " while ", describe(**use),
                                   " is unfinished: the host has not waited for it");
    } else if (gpu.pinned().was_freed(address)) {
      report(ReportKind::freed_memory, trident::build_string("host code ", verb, " freed pinned memory at ", pointer));
      return false;
    } else {
      return false;
    }
  }
  report(ReportKind::host_access, text);
  return true;
}

void on_fault(int signal_number, siginfo_t* info, void* context) {
  constexpr greg_t kWriteBit = 2;  // of the x86 page fault's error code
  const bool write = (static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & kWriteBit) != 0;
  if (!Gpu::get().on_device_thread() && host_fault(reinterpret_cast<uintptr_t>(info->si_addr), write)) return;
  // Not ours. The access is repeated, and ends the process as it would have: by the next handler, which may put us
  // back and raise the signal again, and then by the system.
  if (g_foreign_faults++ == 0 && g_next.sa_handler != SIG_DFL) {
    sigaction(signal_number, &g_next, nullptr);
  } else {
    signal(signal_number, SIG_DFL);
  }
}

}  // namespace

void install_host_fault_handler() {
  struct sigaction now {};
  sigaction(SIGSEGV, nullptr, &now);
  if (now.sa_sigaction == on_fault) return;
  g_next = now;
  struct sigaction ours {};
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &ours, nullptr);
}

}  // namespace simt
