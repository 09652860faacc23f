// The arithmetic of a reduction: one answer for every algorithm, so that all of them give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/dtype.h"
#include "core/comm/communicator.h"
#include "kernels/cpu/combine.h"

namespace trident {

/// out[i] = pieces[0][i] + pieces[1][i] + ... in this order (or the maximum; NaN wins), for i < count. f32, bf16 and
/// f16 accumulate in f32, f64 in f64, i64 in i64; rounded once, at the end. `out` may be one of the pieces, and must
/// not overlap another. `copy`, if there is one, gets the same as `out`; best for memory that another core's cache
/// holds. Throws InternalError for other dtypes.
inline void combine_pieces(DType dtype, Reduce reduce, std::byte* out, std::span<const std::byte* const> pieces,
                           int64_t count, std::byte* copy = nullptr) {
  combine_function()(dtype, reduce == Reduce::max, out, pieces, count, copy);
}
}  // namespace trident
