// The reference table's class, defined family by family: gemm.cpp norm.cpp attention.cpp pointwise.cpp embedding.cpp
// loss.cpp optimizer.cpp. Only those files, reference_ops.cpp and tests that change one of its answers include it.
#pragma once

#include "kernels/ops.h"

namespace trident::reference {

class ReferenceOps : public Ops {
 public:
  void gemm(Stream, const GemmArgs&) const override;

  void norm_forward(Stream, const NormArgs&) const override;
  void norm_backward(Stream, const NormBackwardArgs&) const override;

  void rope(Stream, const RopeArgs&) const override;
  void attention_forward(Stream, const AttentionArgs&) const override;
  void attention_backward(Stream, const AttentionBackwardArgs&) const override;

  void activation_forward(Stream, ActivationKind, Tensor y_TF, Tensor x) const override;
  void activation_backward(Stream, ActivationKind, Tensor dx, Tensor dy_TF, Tensor x) const override;
  void dropout_add(Stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec&) const override;
  void dropout_backward(Stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec&) const override;
  void bias_backward(Stream, Tensor db_N, Tensor dy_TN, Tensor) const override;
  void bias_add(Stream, Tensor x_TN, Tensor b_N) const override;
  void add(Stream, Tensor y, Tensor x) const override;
  void scale(Stream, Tensor y, Tensor x, float factor) const override;

  void embedding_forward(Stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const override;
  void embedding_backward(Stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                          Tensor scratch) const override;
  void position_forward(Stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const override;
  void position_backward(Stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const override;

  void softmax_max(Stream, Tensor max_T, Tensor logits_TV, int64_t valid) const override;
  void softmax_sum(Stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T, int64_t first_id,
                   int64_t valid) const override;
  void softmax_loss(Stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                    int64_t first_id, int64_t valid, bool gradient) const override;

  void adamw(Stream, const AdamWArgs&) const override;
  void step_sums(Stream, const StepSumsArgs&) const override;
  void step_control(Stream, const StepControlArgs&) const override;
  void sum_squares(Stream, Tensor out_1, Tensor x, Tensor) const override;
  void sum(Stream, Tensor out_1, Tensor x, Tensor) const override;
};

}  // namespace trident::reference
