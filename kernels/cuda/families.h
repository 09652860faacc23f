// The op families of the CUDA table, one .cu each: kernels, and below them the launchers declared here. Contracts:
// kernels/ops.h; arguments have passed kernels/check.h. Nothing outside kernels/cuda includes this.
//
// Policy: a launcher submits to the stream and returns; it never synchronises or allocates. A launch that fails throws
// RunError naming the kernel and CUDA's words. Sums are taken in a fixed order: the same call gives the same bits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gpu_scratch.h"
#include "kernels/ops.h"

namespace trident::cuda {

/// The hand-written GEMM: tensor cores (mma.sync) for bf16 and f16, FMA for f32. What is left when cuBLASLt has no
/// algorithm.
void gemm_handwritten(cudaStream_t, const GemmArgs&);

void norm_forward(cudaStream_t, const NormArgs&);
void norm_backward(cudaStream_t, const NormBackwardArgs&);

void rope(cudaStream_t, const RopeArgs&);
/// Our own attention; attention_dispatch.h decides when it runs.
void attention_forward(cudaStream_t, const AttentionArgs&);
void attention_backward(cudaStream_t, const AttentionBackwardArgs&);

void activation_forward(cudaStream_t, ActivationKind, Tensor y_TF, Tensor x);
void activation_backward(cudaStream_t, ActivationKind, Tensor dx, Tensor dy_TF, Tensor x);
void dropout_add(cudaStream_t, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec&);
void bias_backward(cudaStream_t, Tensor db_N, Tensor dy_TN, Tensor scratch);
void bias_add(cudaStream_t, Tensor x_TN, Tensor b_N);
void add(cudaStream_t, Tensor y, Tensor x);
void scale(cudaStream_t, Tensor y, Tensor x, float factor);

void embedding_forward(cudaStream_t, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id);
void embedding_backward(cudaStream_t, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id, Tensor scratch);
void position_forward(cudaStream_t, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context);
void position_backward(cudaStream_t, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context);

void softmax_max(cudaStream_t, Tensor max_T, Tensor logits_TV, int64_t valid);
void softmax_sum(cudaStream_t, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                 int64_t first_id, int64_t valid);
void softmax_loss(cudaStream_t, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T,
                  Tensor id_T, int64_t first_id, int64_t valid, bool gradient);

void adamw(cudaStream_t, const AdamWArgs&);
void step_sums(cudaStream_t, const StepSumsArgs&);
void step_control(cudaStream_t, const StepControlArgs&);
void sum_squares(cudaStream_t, Tensor out_1, Tensor x, Tensor scratch);
void sum(cudaStream_t, Tensor out_1, Tensor x, Tensor scratch);

}  // namespace trident::cuda
