// What collectives between ranks of the CPU do with memory. Nobody but core/comm calls this. Lines that go whole, in one
// vector, are worth up to half of the speed where another core's cache holds them: hence for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/dtype.h"

namespace trident {

/// The functions of one instruction set; the same bits from each. Safe to call from several threads at once.
struct Exchange {
  /// out[i] = pieces[0][i] + pieces[1][i] + ..., or the maximum of them: core/comm/combine.h.
  void (*combine)(DType, bool maximum, std::byte* out, std::span<const std::byte* const> pieces, int64_t count,
                  std::byte* copy);
  /// Copies into memory that the cache of another rank's core holds, from its last reading.
  void (*copy_to_stage)(std::byte* to, const std::byte* from, size_t bytes);
  /// Copies out of another rank's area, which leaves the memory idle: time to fetch what is staged `bytes` next.
  void (*copy_from_stage)(std::byte* to, const std::byte* from, size_t bytes, const std::byte* next);
};

/// Those of cpu_isa(). Throws UserError as that does.
const Exchange& exchange();

}  // namespace trident
