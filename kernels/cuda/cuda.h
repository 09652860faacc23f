// The CUDA vocabulary: the one CUDA header that a kernel source includes. nvcc sees the toolkit and the PTX wrappers of
// ptx.h; g++ sees kernels/simt/emulation.h, which runs the same source on the processor. Both offer namespace simt:
// launch, 16-byte accesses, cp.async, ldmatrix, mma.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda/ptx.h"
#else
#include "kernels/simt/emulation.h"
#endif
