// The arithmetic of the emulated NCCL's reductions.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace simt {

/// True when the emulation can combine this type by this operation.
bool reducible(ncclDataType_t type, ncclRedOp_t op);

/// out[i] = pieces[0][i] op pieces[1][i] op ..., in this order: f32, bf16 and f16 in f32, f64 in f64, integers in
/// themselves; one rounding, at the end. ncclAvg is the sum over pieces.size(), divided before that rounding. A maximum
/// or minimum drops NaN where another piece has a number, as NCCL's do: nobody may count on NaN to come through.
void combine(ncclDataType_t type, ncclRedOp_t op, void* out, const std::vector<const void*>& pieces, size_t count);

}  // namespace simt
