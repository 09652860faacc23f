// The fast CPU table of kernels/ops.h: f32, bf16 and f16 storage, arithmetic in f32, OpenMP inside an operation. There
// is one for each instruction set (kernels/cpu/isa.h).
//
// Policy: the same call gives the same bits every time and for any number of threads: work is cut into fixed pieces and
// partial sums are combined in their order. A row of a result never depends on how many other rows there are. (bf16
// GEMMs that oneDNN runs on a machine with native bf16 instructions follow oneDNN's own order instead.)
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/ops.h"

namespace trident {

/// The table of cpu_isa(). An operation runs in the calling thread's place in time (the stream is ignored: the CPU
/// device calls from its stream's thread). Safe to call from several threads at once. Throws InternalError on a broken
/// contract; this function UserError, as cpu_isa() does.
std::unique_ptr<Ops> make_cpu_ops();

/// Zeroes memory on all OpenMP threads.
void zero_memory(void* data, size_t bytes);

}  // namespace trident
