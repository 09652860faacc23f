// Instruction sets. The kernels of this folder are compiled once for each (CMakeLists.txt says with which options);
// what computes is chosen when the program runs. isa.cpp, peak.cpp and zero.cpp are compiled once, like the rest of
// Trident: for processors with AVX2.
#pragma once

#include <cstdint>
#include <string>

namespace trident {

/// Each has what those before it have. avx2: and FMA, F16C, all that Haswell brought. avx512: F, BW, CD, DQ and VL
/// (Skylake). avx512_bf16: dot products of bf16 (Cooper Lake, Zen 4). amx: tiles of bf16 (Sapphire Rapids). Before
/// avx512_bf16 bf16 is storage, and arithmetic is in f32.
enum class CpuIsa : uint8_t { avx2, avx512, avx512_bf16, amx };

/// "avx2", ...
const char* cpu_isa_name(CpuIsa);

/// The last that this machine has: in the processor, and, of the tiles, granted by the system, which is asked once.
CpuIsa best_cpu_isa();

/// What `wanted`, the value of TRIDENT_CPU_ISA, names; nullptr or "": `best`. Throws UserError for an unknown name and
/// for one past `best`.
CpuIsa choose_cpu_isa(const char* wanted, CpuIsa best);

/// The choice on this machine, in this environment.
CpuIsa cpu_isa();

/// For the log: "amx", or "avx2 (TRIDENT_CPU_ISA; the best here is amx)".
std::string describe_cpu_isa();

#ifdef TRIDENT_CPU_ISA
/// In what is compiled once for each: which one this is.
inline constexpr CpuIsa kCompiledIsa = CpuIsa::TRIDENT_CPU_ISA;
#endif

}  // namespace trident
