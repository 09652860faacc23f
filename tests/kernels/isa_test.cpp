// How the instruction set of the CPU's kernels is chosen.
#include "kernels/cpu/isa.h"

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

TEST_CASE("the best instruction set computes unless the environment names another") {
  for (const CpuIsa best : {CpuIsa::avx2, CpuIsa::avx512, CpuIsa::avx512_bf16, CpuIsa::amx}) {
    CHECK(choose_cpu_isa(nullptr, best) == best);
    CHECK(choose_cpu_isa("", best) == best);
    CHECK(choose_cpu_isa("avx2", best) == CpuIsa::avx2);
    CHECK(choose_cpu_isa(cpu_isa_name(best), best) == best);
  }
  CHECK(choose_cpu_isa("avx512", CpuIsa::amx) == CpuIsa::avx512);
  CHECK(choose_cpu_isa("avx512_bf16", CpuIsa::amx) == CpuIsa::avx512_bf16);
}

TEST_CASE("an instruction set that is unknown or not there is refused with those that are") {
  const auto message = [](const char* wanted, CpuIsa best) -> std::string {
    try {
      choose_cpu_isa(wanted, best);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message("avx512_bf16", CpuIsa::avx512) ==
        "TRIDENT_CPU_ISA=avx512_bf16: this machine does not have it; it can be avx2, avx512; unset: avx512");
  CHECK(message("avx", CpuIsa::amx) ==
        "TRIDENT_CPU_ISA=avx is not known; it can be avx2, avx512, avx512_bf16, amx; unset: amx");
  CHECK(message("amx", CpuIsa::avx2) ==
        "TRIDENT_CPU_ISA=amx: this machine does not have it; it can be avx2; unset: avx2");
}

TEST_CASE("what this machine has, it has every time it is asked") {
  CHECK(best_cpu_isa() == best_cpu_isa());
  CHECK(cpu_isa() <= best_cpu_isa());
  CHECK(describe_cpu_isa().starts_with(cpu_isa_name(cpu_isa())));
}
