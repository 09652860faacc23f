// Element types across files: "a checkpoint loads in any precision" is this one function.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/dtype.h"

namespace trident {

/// dst[i] = src[i] for n elements; dst and src may be unaligned and do not overlap. Floats convert among each other
/// (rounded to float on the way to a 16-bit type, to nearest, ties to even), integers among each other when every value
/// fits. Throws UserError otherwise; `what` names the tensor in its message.
void convert_elements(DType dst_type, void* dst, DType src_type, const void* src, int64_t n, const std::string& what);

}  // namespace trident
