// The CUDA table of kernels/ops.h: f32, bf16 and f16 storage, arithmetic in f32 (tensor cores multiply 16-bit operands
// exactly and sum in f32). A Stream's handle is a cudaStream_t; tensors lie in device memory.
//
// Policy: an operation is submitted and returns; errors of a launch are thrown at once, what happens later on the
// device comes out of the next synchronisation. The same call gives the same bits every time.
#pragma once

#include <memory>
#include <string>

#include "kernels/attention_kernel.h"
#include "kernels/ops.h"

namespace trident {

/// Needs no device before the first operation: the planner asks it for scratch on a laptop.
std::unique_ptr<Ops> make_cuda_ops(AttentionKernel attention = AttentionKernel::automatic);

/// Version of cuBLASLt as linked: "13.1.0".
std::string cublaslt_version();
/// "cuDNN 9.19.0", or "no cuDNN".
std::string cudnn_description();

}  // namespace trident
