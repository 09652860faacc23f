// Our own GEMM: f32, bf16 and f16 operands, f32 arithmetic. For a, b of 16 bits it widens while packing, so it needs no
// f32 copy of a weight; every element of c sums over k in one fixed order, so rows, columns, threads and batch sizes
// can be split anywhere without changing a bit.
#pragma once

#include "kernels/ops.h"

namespace trident::cpu {

/// The contract of Ops::gemm. `scratch` holds gemm_packed_scratch_bytes.
void gemm_packed(const GemmArgs&);
size_t gemm_packed_scratch_bytes(const GemmArgs&);

}  // namespace trident::cpu
