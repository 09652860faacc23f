// The table of one instruction set. Of all that is compiled for the set, only kernels() is seen outside.
#include "kernels/check.h"
#include "kernels/cpu/families.h"

namespace trident::cpu {
namespace {

class CpuOps final : public Ops {
 public:
  void gemm(Stream, const GemmArgs& args) const override {
    check(args);
    gemm_.run(args);
  }

  void norm_forward(Stream, const NormArgs& args) const override {
    check_norm_forward(args);
    cpu::norm_forward(args);
  }
  void norm_backward(Stream, const NormBackwardArgs& args) const override {
    check(args);
    cpu::norm_backward(args);
  }

  void rope(Stream, const RopeArgs& args) const override {
    check(args);
    cpu::rope(args);
  }
  void attention_forward(Stream, const AttentionArgs& args) const override {
    check(args);
    cpu::attention_forward(args);
  }
  void attention_backward(Stream, const AttentionBackwardArgs& args) const override {
    check(args);
    cpu::attention_backward(args);
  }

  void activation_forward(Stream, ActivationKind kind, Tensor y_TF, Tensor x) const override {
    check_activation_forward(kind, y_TF, x);
    cpu::activation_forward(kind, y_TF, x);
  }
  void activation_backward(Stream, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) const override {
    check_activation_backward(kind, dx, dy_TF, x);
    cpu::activation_backward(kind, dx, dy_TF, x);
  }

  void dropout_add(Stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& drop) const override {
    check_dropout_add(y_TN, x_TN, z_TN, drop);
    cpu::dropout_add(y_TN, x_TN, z_TN, drop);
  }
  void dropout_backward(Stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& drop) const override {
    check_dropout_backward(dz_TN, dy_TN, drop);
    cpu::dropout_add(dz_TN, Tensor{}, dy_TN, drop);
  }

  void bias_backward(Stream, Tensor db_N, Tensor dy_TN, Tensor) const override {
    check_bias_backward(db_N, dy_TN);
    cpu::bias_backward(db_N, dy_TN);
  }
  void bias_add(Stream, Tensor x_TN, Tensor b_N) const override {
    check_bias_add(x_TN, b_N);
    cpu::bias_add(x_TN, b_N);
  }
  void add(Stream, Tensor y, Tensor x) const override {
    check_elementwise("add", y, x);
    cpu::add(y, x);
  }
  void scale(Stream, Tensor y, Tensor x, float factor) const override {
    check_elementwise("scale", y, x);
    cpu::scale(y, x, factor);
  }

  void embedding_forward(Stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const override {
    check_embedding_forward(y_TD, id_T, table_VD);
    cpu::embedding_forward(y_TD, id_T, table_VD, first_id);
  }
  void embedding_backward(Stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                          Tensor scratch) const override {
    check_embedding_backward(dtable_VD, id_T, dy_TD, scratch);
    cpu::embedding_backward(dtable_VD, id_T, dy_TD, first_id);
  }
  void position_forward(Stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const override {
    check_position_forward(y_TD, table_PD, first_row, context);
    cpu::position_forward(y_TD, table_PD, first_row, context);
  }
  void position_backward(Stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const override {
    check_position_backward(dtable_PD, dy_TD, first_row, context);
    cpu::position_backward(dtable_PD, dy_TD, first_row, context);
  }

  void softmax_max(Stream, Tensor max_T, Tensor logits_TV, int64_t valid) const override {
    check_softmax_max(max_T, logits_TV, valid);
    cpu::softmax_max(max_T, logits_TV, valid);
  }
  void softmax_sum(Stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T, int64_t first_id,
                   int64_t valid) const override {
    check_softmax_sum(sum_T, target_T, logits_TV, max_T, id_T, valid);
    cpu::softmax_sum(sum_T, target_T, logits_TV, max_T, id_T, first_id, valid);
  }
  void softmax_loss(Stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                    int64_t first_id, int64_t valid, bool gradient) const override {
    check_softmax_loss(loss_T, logits_TV, max_T, sum_T, target_T, id_T, valid);
    cpu::softmax_loss(loss_T, logits_TV, max_T, sum_T, target_T, id_T, first_id, valid, gradient);
  }
  int64_t softmax_rows(Tensor logits_TV) const override { return cpu::softmax_rows(logits_TV); }

  void adamw(Stream, const AdamWArgs& args) const override {
    check(args);
    cpu::adamw(args);
  }
  void step_sums(Stream, const StepSumsArgs& args) const override {
    check(args);
    cpu::step_sums(args);
  }
  void step_control(Stream, const StepControlArgs& args) const override {
    check(args);
    cpu::step_control(args);
  }
  void sum_squares(Stream, Tensor out_1, Tensor x, Tensor) const override {
    check_total("sum_squares", out_1, x);
    cpu::sum_squares(out_1, x);
  }
  void sum(Stream, Tensor out_1, Tensor x, Tensor) const override {
    check_total("sum", out_1, x);
    cpu::sum(out_1, x);
  }

  bool remakes_activations() const override { return true; }

  size_t scratch_bytes(const GemmArgs& args) const override { return gemm_.scratch_bytes(args); }
  size_t scratch_bytes(const NormBackwardArgs& args) const override { return cpu::norm_scratch_bytes(args); }
  size_t scratch_bytes(const AttentionArgs& args) const override { return cpu::attention_scratch_bytes(args); }
  size_t scratch_bytes(const AttentionBackwardArgs& args) const override { return cpu::attention_scratch_bytes(args); }

 private:
  Gemm gemm_;
};

}  // namespace

template <>
Kernels kernels<kCompiledIsa>() {
  return {[]() -> std::unique_ptr<Ops> { return std::make_unique<CpuOps>(); }, &combine};
}

}  // namespace trident::cpu
