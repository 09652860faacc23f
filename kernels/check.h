// The shape and dtype rules of every operation of kernels/ops.h, in one place: each table calls them first, and the dry
// table calls nothing else. They look at shapes and dtypes only, never at data, and cost nanoseconds while all is well.
//
// Every function throws InternalError naming the operation, the rule, and each tensor with its dtype and shape.
#pragma once

#include "kernels/ops.h"

namespace trident {

constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16 || t == DType::f64; }

/// What statistics and parameter gradients have beside activations of dtype `compute`: f32, or f64 beside f64.
constexpr DType statistics_dtype(DType compute) { return compute == DType::f64 ? DType::f64 : DType::f32; }

void check(const GemmArgs&);
void check_norm_forward(const NormArgs&);
void check(const NormBackwardArgs&);
void check(const RopeArgs&);
void check(const AttentionArgs&);
void check(const AttentionBackwardArgs&);
void check_activation_forward(ActivationKind, const Tensor& y_TF, const Tensor& x);
void check_activation_backward(ActivationKind, const Tensor& dx, const Tensor& dy_TF, const Tensor& x);
void check_dropout_add(const Tensor& y_TN, const Tensor& x_TN, const Tensor& z_TN, const DropoutSpec&);
void check_dropout_backward(const Tensor& dz_TN, const Tensor& dy_TN, const DropoutSpec&);
void check_bias_backward(const Tensor& db_N, const Tensor& dy_TN);
void check_bias_add(const Tensor& x_TN, const Tensor& b_N);
/// `add` and `scale`: two float tensors of as many elements.
void check_elementwise(const char* op, const Tensor& y, const Tensor& x);
void check_embedding_forward(const Tensor& y_TD, const Tensor& id_T, const Tensor& table_VD);
void check_embedding_backward(const Tensor& dtable_VD, const Tensor& id_T, const Tensor& dy_TD, const Tensor& scratch);
void check_position_forward(const Tensor& y_TD, const Tensor& table_PD, int64_t first_row, int64_t context);
void check_position_backward(const Tensor& dtable_PD, const Tensor& dy_TD, int64_t first_row, int64_t context);
void check_softmax_max(const Tensor& max_T, const Tensor& logits_TV, int64_t valid);
void check_softmax_sum(const Tensor& sum_T, const Tensor& target_T, const Tensor& logits_TV, const Tensor& max_T,
                       const Tensor& id_T, int64_t valid);
void check_softmax_loss(const Tensor& loss_T, const Tensor& logits_TV, const Tensor& max_T, const Tensor& sum_T,
                        const Tensor& target_T, const Tensor& id_T, int64_t valid);
void check(const AdamWArgs&);
void check(const StepSumsArgs&);
void check(const StepControlArgs&);
/// `sum_squares` and `sum`.
void check_total(const char* op, const Tensor& out_1, const Tensor& x);

}  // namespace trident
