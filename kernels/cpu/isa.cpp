#include "kernels/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/families.h"

namespace trident {
namespace {

constexpr const char* kNames[] = {"avx2", "avx512", "avx512_bf16", "amx"};
constexpr const char* kVariable = "TRIDENT_CPU_ISA";

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_amx() {
  // Clang 16 does not know __builtin_cpu_supports("amx-bf16").
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;  // of EDX in CPUID leaf 7
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kBf16) == 0 || (edx & kTile) == 0) return false;
  // Linux hands out the 8 KiB of tile state to processes that ask (Documentation/arch/x86/xstate.rst).
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

CpuIsa examine() {
  __builtin_cpu_init();  // for callers before main
  if (!has_avx512()) return CpuIsa::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return CpuIsa::avx512;
  return has_amx() ? CpuIsa::amx : CpuIsa::avx512_bf16;
}

cpu::Kernels chosen_kernels() {
  switch (cpu_isa()) {
    case CpuIsa::avx2: return cpu::kernels<CpuIsa::avx2>();
    case CpuIsa::avx512: return cpu::kernels<CpuIsa::avx512>();
    case CpuIsa::avx512_bf16: return cpu::kernels<CpuIsa::avx512_bf16>();
    case CpuIsa::amx: break;
  }
  return cpu::kernels<CpuIsa::amx>();
}

}  // namespace

const char* cpu_isa_name(CpuIsa isa) { return kNames[static_cast<size_t>(isa)]; }

CpuIsa best_cpu_isa() {
  static const CpuIsa best = examine();
  return best;
}

CpuIsa choose_cpu_isa(const char* wanted, CpuIsa best) {
  if (wanted == nullptr || *wanted == '\0') return best;
  std::string possible;
  for (size_t i = 0; i <= static_cast<size_t>(best); ++i) {
    if (std::string_view(wanted) == kNames[i]) return static_cast<CpuIsa>(i);
    possible += build_string(i == 0 ? "" : ", ", kNames[i]);
  }
  bool known = false;
  for (const char* name : kNames) known = known || std::string_view(wanted) == name;
  throw UserError(build_string(kVariable, "=", wanted, known ? ": this machine does not have it" : " is not known",
                               "; it can be ", possible, "; unset: ", cpu_isa_name(best)));
}

CpuIsa cpu_isa() {
  static const CpuIsa chosen = choose_cpu_isa(std::getenv(kVariable), best_cpu_isa());
  return chosen;
}

std::string describe_cpu_isa() {
  const std::string name = cpu_isa_name(cpu_isa());
  if (cpu_isa() == best_cpu_isa()) return name;
  return build_string(name, " (", kVariable, "; the best here is ", cpu_isa_name(best_cpu_isa()), ")");
}

std::unique_ptr<Ops> make_cpu_ops() { return chosen_kernels().make_ops(); }

CombineFunction& combine_function() {
  static CombineFunction& chosen = *chosen_kernels().combine;
  return chosen;
}

}  // namespace trident
