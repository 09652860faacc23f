// test_cpu_NAME tests the kernels compiled for the instruction set NAME, wherever the machine has it.
#include <errno.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/base/error.h"
#include "kernels/cpu/isa.h"

namespace {

/// Before any code of the set runs, static initialisers included.
__attribute__((constructor(101))) void require_instruction_set() {
  const char* const isa = program_invocation_short_name + std::strlen("test_cpu_");
  try {
    trident::choose_cpu_isa(isa, trident::best_cpu_isa());
    setenv("TRIDENT_CPU_ISA", isa, 1);
  } catch (const trident::UserError&) {
    std::printf("not run: this machine does not have %s\n", isa);
    std::fflush(stdout);
    _exit(0);
  }
}

}  // namespace
