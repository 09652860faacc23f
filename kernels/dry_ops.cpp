#include "kernels/dry_ops.h"

#include "kernels/check.h"
#include "kernels/gpu_scratch.h"

namespace trident {
namespace {

class CheckingOps : public Ops {
 public:
  void gemm(Stream, const GemmArgs& args) const override { check(args); }
  void norm_forward(Stream, const NormArgs& args) const override { check_norm_forward(args); }
  void norm_backward(Stream, const NormBackwardArgs& args) const override { check(args); }
  void rope(Stream, const RopeArgs& args) const override { check(args); }
  void attention_forward(Stream, const AttentionArgs& args) const override { check(args); }
  void attention_backward(Stream, const AttentionBackwardArgs& args) const override { check(args); }

  void activation_forward(Stream, ActivationKind kind, Tensor y_TF, Tensor x) const override {
    check_activation_forward(kind, y_TF, x);
  }
  void activation_backward(Stream, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) const override {
    check_activation_backward(kind, dx, dy_TF, x);
  }
  void dropout_add(Stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& spec) const override {
    check_dropout_add(y_TN, x_TN, z_TN, spec);
  }
  void dropout_backward(Stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& spec) const override {
    check_dropout_backward(dz_TN, dy_TN, spec);
  }
  void bias_backward(Stream, Tensor db_N, Tensor dy_TN, Tensor) const override { check_bias_backward(db_N, dy_TN); }
  void bias_add(Stream, Tensor x_TN, Tensor b_N) const override { check_bias_add(x_TN, b_N); }
  void add(Stream, Tensor y, Tensor x) const override { check_elementwise("add", y, x); }
  void scale(Stream, Tensor y, Tensor x, float) const override { check_elementwise("scale", y, x); }

  void embedding_forward(Stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t) const override {
    check_embedding_forward(y_TD, id_T, table_VD);
  }
  void embedding_backward(Stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t, Tensor scratch) const override {
    check_embedding_backward(dtable_VD, id_T, dy_TD, scratch);
  }
  void position_forward(Stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const override {
    check_position_forward(y_TD, table_PD, first_row, context);
  }
  void position_backward(Stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const override {
    check_position_backward(dtable_PD, dy_TD, first_row, context);
  }

  void softmax_max(Stream, Tensor max_T, Tensor logits_TV, int64_t valid) const override {
    check_softmax_max(max_T, logits_TV, valid);
  }
  void softmax_sum(Stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T, int64_t,
                   int64_t valid) const override {
    check_softmax_sum(sum_T, target_T, logits_TV, max_T, id_T, valid);
  }
  void softmax_loss(Stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                    int64_t, int64_t valid, bool) const override {
    check_softmax_loss(loss_T, logits_TV, max_T, sum_T, target_T, id_T, valid);
  }

  void adamw(Stream, const AdamWArgs& args) const override { check(args); }
  void step_sums(Stream, const StepSumsArgs& args) const override { check(args); }
  void step_control(Stream, const StepControlArgs& args) const override { check(args); }
  void sum_squares(Stream, Tensor out_1, Tensor x, Tensor) const override { check_total("sum_squares", out_1, x); }
  void sum(Stream, Tensor out_1, Tensor x, Tensor) const override { check_total("sum", out_1, x); }
};

class DryOps final : public CheckingOps {
 public:
  explicit DryOps(const Ops& real) : real_(real) {}

  bool remakes_activations() const override { return real_.remakes_activations(); }
  std::string describe(const AttentionArgs& args) const override { return real_.describe(args); }

  size_t scratch_bytes(const GemmArgs& args) const override { return real_.scratch_bytes(args); }
  size_t scratch_bytes(const NormBackwardArgs& args) const override { return real_.scratch_bytes(args); }
  size_t scratch_bytes(const AttentionArgs& args) const override { return real_.scratch_bytes(args); }
  size_t scratch_bytes(const AttentionBackwardArgs& args) const override { return real_.scratch_bytes(args); }
  size_t embedding_scratch_bytes(int64_t tokens, int64_t rows) const override {
    return real_.embedding_scratch_bytes(tokens, rows);
  }
  size_t bias_scratch_bytes(int64_t rows, int64_t columns) const override {
    return real_.bias_scratch_bytes(rows, columns);
  }
  size_t sum_scratch_bytes() const override { return real_.sum_scratch_bytes(); }

 private:
  const Ops& real_;
};

class DryCudaOps final : public CheckingOps {
 public:
  explicit DryCudaOps(AttentionKernel attention) : attention_(attention) {}

  size_t scratch_bytes(const GemmArgs& args) const override { return cuda::gemm_scratch_bytes(args); }
  size_t scratch_bytes(const NormBackwardArgs& args) const override { return cuda::norm_scratch_bytes(args); }
  size_t scratch_bytes(const AttentionArgs& args) const override { return attention_scratch_bytes(attention_, args); }
  size_t scratch_bytes(const AttentionBackwardArgs& args) const override {
    return attention_scratch_bytes(attention_, args);
  }
  size_t embedding_scratch_bytes(int64_t tokens, int64_t rows) const override {
    return cuda::embedding_scratch_bytes(tokens, rows);
  }
  size_t bias_scratch_bytes(int64_t rows, int64_t columns) const override {
    return cuda::bias_scratch_bytes(rows, columns);
  }
  size_t sum_scratch_bytes() const override { return cuda::kSumScratchBytes; }

 private:
  const AttentionKernel attention_;
};

}  // namespace

std::unique_ptr<Ops> make_dry_ops(const Ops& real) { return std::make_unique<DryOps>(real); }
std::unique_ptr<Ops> make_dry_cuda_ops(AttentionKernel attention) { return std::make_unique<DryCudaOps>(attention); }

}  // namespace trident
