// The residual's formula, y = x + dropout(z), in one compiled place: whether an operation runs it over a whole tensor
// or row by row inside another pass, the bits are the same.
#pragma once

#include <cstdint>

#include "kernels/ops.h"

namespace trident::cpu {

/// y[i] = x[i] + z[i] * factor of word first + i, for i < count; x may be null: y[i] = z[i] * factor. y may be x or z.
/// T: float, bf16, f16.
template <class T>
void dropout_add_run(T* y, const T* x, const T* z, int64_t count, const DropoutSpec& drop, uint64_t first);

}  // namespace trident::cpu
