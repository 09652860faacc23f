// Our own GEMM for bf16 operands on AMX tiles: two to three times what oneDNN's matmul reaches there. Every element of
// c sums over k in ascending order, 32 at a time, so rows, columns, threads and batch sizes can be split anywhere
// without changing a bit.
#pragma once

#include "kernels/ops.h"

namespace trident::cpu {

/// Whether gemm_amx takes the call: bf16 operands, a processor with the tiles, and enough rows and columns to fill
/// them.
bool gemm_amx_takes(const GemmArgs&);
/// The contract of Ops::gemm, bias_grad_M included (with the bits of bias_backward), activated_MN not. `scratch` holds
/// gemm_amx_scratch_bytes.
void gemm_amx(const GemmArgs&);
size_t gemm_amx_scratch_bytes(const GemmArgs&);

}  // namespace trident::cpu
