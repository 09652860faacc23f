// GEMM front end: checks the call once, then multiplies with the packed kernel.
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm_packed.h"
#include "kernels/cpu/parallel.h"

namespace trident::cpu {

struct Gemm::Table {};

Gemm::Gemm() : table_(std::make_unique<Table>()) {}
Gemm::~Gemm() = default;

namespace {

void check(const GemmArgs& args) {
  ensure(args.c_MN.rank == 2 && args.a.rank == 2 && args.b.rank == 2, "gemm takes matrices");
  const int64_t m = args.a.dim[args.transpose_a ? 1 : 0], k = args.a.dim[args.transpose_a ? 0 : 1];
  ensure(m == args.c_MN.dim[0], "gemm: the rows of op(a) are the rows of c");
  ensure(k == args.b.dim[args.transpose_b ? 1 : 0], "gemm: op(a) and op(b) agree on k");
  ensure(args.c_MN.dim[1] == args.b.dim[args.transpose_b ? 0 : 1], "gemm: the columns of op(b) are the columns of c");
  ensure(!args.bias_N.defined() || args.bias_N.numel() == args.c_MN.dim[1], "gemm: one bias per column of c");
  ensure(!(args.bias_N.defined() && args.accumulate), "gemm: bias is not combined with accumulate");
}

}  // namespace

void Gemm::run(const GemmArgs& args) const {
  check(args);
  ensure(args.scratch.bytes() >= scratch_bytes(args), "gemm: scratch holds scratch_bytes(args)");
  gemm_packed(args);
}

size_t Gemm::scratch_bytes(const GemmArgs& args) const {
  check(args);
  return gemm_packed_scratch_bytes(args);
}

}  // namespace trident::cpu
