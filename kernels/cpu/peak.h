// What this machine reaches, of GEMM and of memory: what `mfu` and `trident bench` are measured against.
#pragma once

#include <cstdint>

#include "core/base/dtype.h"

namespace trident {

/// FLOP/s of the best large square GEMM (1024, 1536, 2048) through the CPU table, all OpenMP threads, inputs and
/// output of `dtype` (f32, bf16 or f16). Runs for about `seconds`: at least once at 1024, larger sizes while time is
/// left. Each size counts the median of its fastest half, so that one interruption or one lucky clock does not decide.
/// Allocates 3 matrices while it runs.
double measure_gemm_peak(DType dtype, double seconds);

/// x[i] *= factor for i < n, on all OpenMP threads: the stream that a memory-bound operation is measured against. A
/// loop for the compiler's own vectors, which are a tenth faster here than a line at a time.
void stream_through(float* x, int64_t n, float factor);
/// Reads x and writes nothing: the same for operations that only read. Returns all bits that some element has.
uint32_t read_through(const float* x, int64_t n);

}  // namespace trident
