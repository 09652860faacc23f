// The sums of reductions between ranks (core/comm/combine.h), for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/dtype.h"

namespace trident {

/// combine_pieces (core/comm/combine.h), which alone calls this: sums, or with `maximum` maxima.
using CombineFunction = void(DType, bool maximum, std::byte* out, std::span<const std::byte* const> pieces,
                             int64_t count, std::byte* copy);

/// That of cpu_isa(); all give the same bits. Throws UserError as cpu_isa() does.
CombineFunction& combine_function();

/// How far ahead of writing lines that another core's cache holds they are asked for. It gains a tenth.
inline constexpr int64_t kAskAheadBytes = 1024;

}  // namespace trident
