// test_cpu_NAME tests the kernels compiled for the instruction set NAME, wherever the machine has it.
#include <errno.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/isa.h"

namespace {

/// Before any code of the set runs, static initialisers included. (Inline functions of the library may be the set's,
/// too.)
__attribute__((constructor(101))) void require_instruction_set() {
  const char* const wanted = program_invocation_short_name + std::strlen("test_cpu_");
  for (int isa = 0; isa <= static_cast<int>(trident::best_cpu_isa()); ++isa) {
    if (std::strcmp(wanted, trident::cpu_isa_name(static_cast<trident::CpuIsa>(isa))) != 0) continue;
    setenv("TRIDENT_CPU_ISA", wanted, 1);
    return;
  }
  std::printf("not run: this machine does not have %s\n", wanted);
  std::fflush(stdout);
  _exit(0);
}

}  // namespace
