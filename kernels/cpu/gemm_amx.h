// Our own GEMM on AMX tiles: for bf16 two to three times what oneDNN's matmul reaches there, for f32, as six products
// of bf16 parts, about twice what fused multiply-adds reach, with their accuracy (infinities become NaNs). Every
// element of c sums over k in a fixed order, block by block, so rows, columns, threads and batch sizes can be split
// anywhere without changing a bit.
#pragma once

#include "kernels/ops.h"

namespace trident::cpu {

/// Whether gemm_amx takes the call: bf16 or f32 operands, a processor with the tiles, and enough rows and columns to
/// fill them.
bool gemm_amx_takes(const GemmArgs&);
/// The contract of Ops::gemm, bias_grad_M included (with the bits of bias_backward), activated_MN not. `scratch` holds
/// gemm_amx_scratch_bytes.
void gemm_amx(const GemmArgs&);
size_t gemm_amx_scratch_bytes(const GemmArgs&);

}  // namespace trident::cpu
