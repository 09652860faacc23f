// GEMM front end: checks the call once, then multiplies with the packed kernel.
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm_packed.h"
#include "kernels/cpu/parallel.h"

namespace trident::cpu {

struct Gemm::Table {};

Gemm::Gemm() : table_(std::make_unique<Table>()) {}
Gemm::~Gemm() = default;

void Gemm::run(const GemmArgs& args) const {
  ensure(args.scratch.bytes() >= scratch_bytes(args), "gemm: scratch holds scratch_bytes(args)");
  gemm_packed(args);
}

size_t Gemm::scratch_bytes(const GemmArgs& args) const { return gemm_packed_scratch_bytes(args); }

}  // namespace trident::cpu
