#include "kernels/observed_ops.h"

#include <algorithm>
#include <array>
#include <utility>

namespace trident {
namespace {

using trace::Work;

constexpr std::array<std::string_view, kOps> kNames = {"gemm",
                                                       "norm_forward",
                                                       "norm_backward",
                                                       "rope",
                                                       "attention_forward",
                                                       "attention_backward",
                                                       "activation_forward",
                                                       "activation_backward",
                                                       "dropout_add",
                                                       "dropout_backward",
                                                       "bias_backward",
                                                       "bias_add",
                                                       "add",
                                                       "scale",
                                                       "embedding_forward",
                                                       "embedding_backward",
                                                       "position_forward",
                                                       "position_backward",
                                                       "softmax_max",
                                                       "softmax_sum",
                                                       "softmax_loss",
                                                       "adamw",
                                                       "step_sums",
                                                       "step_control",
                                                       "sum_squares",
                                                       "sum"};
static_assert(!kNames.back().empty(), "every operation has a name");

template <class... Tensors>
double bytes_of(const Tensors&... tensors) {
  return (0.0 + ... + static_cast<double>(tensors.bytes()));
}
double numel(const Tensor& t) { return static_cast<double>(t.numel()); }

Work work_of(const GemmArgs& a) {
  const double k = static_cast<double>(a.a.dim[a.transpose_a ? 0 : 1]);
  return {2 * numel(a.c_MN) * k, bytes_of(a.a, a.b, a.c_MN, a.activated_MN) + (a.accumulate ? bytes_of(a.c_MN) : 0)};
}
Work work_of(const NormArgs& a) {
  const double in = a.addend_TD.defined() ? bytes_of(a.stream_TD, a.addend_TD, a.x_TD) : bytes_of(a.x_TD);
  return {0, in + bytes_of(a.y_TD)};
}
Work work_of(const NormBackwardArgs& a) { return {0, bytes_of(a.forward.x_TD, a.dy_TD, a.residual_TD, a.dx_TD)}; }
Work work_of(const RopeArgs& a) {
  const double share = static_cast<double>(a.heads * a.head_size) / static_cast<double>(a.qkv.row_size());
  return {0, 2 * share * bytes_of(a.qkv)};
}
/// Of one product over the scores that the mask keeps: a query sees (context + 1) / 2 keys in the mean.
double score_flops(const AttentionArgs& a) {
  const double context = static_cast<double>(a.context), keys = a.causal ? (context + 1) / 2 : context;
  return 2 * static_cast<double>(a.qkv.dim[0] * a.heads * a.head_size) * keys;
}
Work work_of(const AttentionArgs& a) { return {2 * score_flops(a), bytes_of(a.qkv, a.out)}; }
Work work_of(const AttentionBackwardArgs& a) {
  return {5 * score_flops(a.forward), bytes_of(a.forward.qkv, a.forward.out, a.dout, a.dqkv)};
}
Work work_of(const AdamWArgs& a) {
  const Tensor weight = a.weight.data == a.master.data && !a.weight.dry() ? Tensor{} : a.weight;
  return {0, 2 * bytes_of(a.master, a.m, a.v) + bytes_of(a.grad) + bytes_of(weight)};
}
/// Rows of a table of positions that `rows` tokens touch.
Work position_work(const Tensor& table_PD, const Tensor& tokens_TD, int64_t context, double times_table,
                   double times_tokens) {
  const double touched = static_cast<double>(std::min({table_PD.dim[0], tokens_TD.dim[0], context}));
  const double table = touched / static_cast<double>(table_PD.dim[0]) * bytes_of(table_PD);
  return {0, times_table * table + times_tokens * bytes_of(tokens_TD)};
}

class ObservedOps final : public Ops {
 public:
  ObservedOps(std::unique_ptr<Ops> real, OpObserver& observer) : real_(std::move(real)), observer_(observer) {}

  void gemm(Stream s, const GemmArgs& a) const override {
    const Call call(observer_, Op::gemm, work_of(a));
    real_->gemm(s, a);
  }
  void norm_forward(Stream s, const NormArgs& a) const override {
    const Call call(observer_, Op::norm_forward, work_of(a));
    real_->norm_forward(s, a);
  }
  void norm_backward(Stream s, const NormBackwardArgs& a) const override {
    const Call call(observer_, Op::norm_backward, work_of(a));
    real_->norm_backward(s, a);
  }
  void rope(Stream s, const RopeArgs& a) const override {
    const Call call(observer_, Op::rope, work_of(a));
    real_->rope(s, a);
  }
  void attention_forward(Stream s, const AttentionArgs& a) const override {
    const Call call(observer_, Op::attention_forward, work_of(a));
    real_->attention_forward(s, a);
  }
  void attention_backward(Stream s, const AttentionBackwardArgs& a) const override {
    const Call call(observer_, Op::attention_backward, work_of(a));
    real_->attention_backward(s, a);
  }

  void activation_forward(Stream s, ActivationKind kind, Tensor y_TF, Tensor x) const override {
    const Call call(observer_, Op::activation_forward, {0, bytes_of(y_TF, x)});
    real_->activation_forward(s, kind, y_TF, x);
  }
  void activation_backward(Stream s, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) const override {
    const Call call(observer_, Op::activation_backward, {0, bytes_of(dx, dy_TF, x)});
    real_->activation_backward(s, kind, dx, dy_TF, x);
  }
  void dropout_add(Stream s, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& drop) const override {
    const Call call(observer_, Op::dropout_add, {0, bytes_of(y_TN, x_TN, z_TN)});
    real_->dropout_add(s, y_TN, x_TN, z_TN, drop);
  }
  void dropout_backward(Stream s, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& drop) const override {
    const Call call(observer_, Op::dropout_backward, {0, bytes_of(dz_TN, dy_TN)});
    real_->dropout_backward(s, dz_TN, dy_TN, drop);
  }
  void bias_backward(Stream s, Tensor db_N, Tensor dy_TN, Tensor scratch) const override {
    const Call call(observer_, Op::bias_backward, {0, bytes_of(dy_TN)});
    real_->bias_backward(s, db_N, dy_TN, scratch);
  }
  void bias_add(Stream s, Tensor x_TN, Tensor b_N) const override {
    const Call call(observer_, Op::bias_add, {0, 2 * bytes_of(x_TN)});
    real_->bias_add(s, x_TN, b_N);
  }
  void add(Stream s, Tensor y, Tensor x) const override {
    const Call call(observer_, Op::add, {0, 2 * bytes_of(y) + bytes_of(x)});
    real_->add(s, y, x);
  }
  void scale(Stream s, Tensor y, Tensor x, float factor) const override {
    const Call call(observer_, Op::scale, {0, bytes_of(y, x)});
    real_->scale(s, y, x, factor);
  }

  void embedding_forward(Stream s, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const override {
    const Call call(observer_, Op::embedding_forward, {0, 2 * bytes_of(y_TD)});
    real_->embedding_forward(s, y_TD, id_T, table_VD, first_id);
  }
  void embedding_backward(Stream s, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                          Tensor scratch) const override {
    const double touched = 2 * numel(dy_TD) * static_cast<double>(dtype_bytes(dtable_VD.dtype));
    const Call call(observer_, Op::embedding_backward, {0, touched + bytes_of(dy_TD)});
    real_->embedding_backward(s, dtable_VD, id_T, dy_TD, first_id, scratch);
  }
  void position_forward(Stream s, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const override {
    const Call call(observer_, Op::position_forward, position_work(table_PD, y_TD, context, 1, 2));
    real_->position_forward(s, y_TD, table_PD, first_row, context);
  }
  void position_backward(Stream s, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const override {
    const Call call(observer_, Op::position_backward, position_work(dtable_PD, dy_TD, context, 2, 1));
    real_->position_backward(s, dtable_PD, dy_TD, first_row, context);
  }

  void softmax_max(Stream s, Tensor max_T, Tensor logits_TV, int64_t valid) const override {
    const Call call(observer_, Op::softmax_max, {0, bytes_of(logits_TV)});
    real_->softmax_max(s, max_T, logits_TV, valid);
  }
  void softmax_sum(Stream s, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                   int64_t first_id, int64_t valid) const override {
    const Call call(observer_, Op::softmax_sum, {0, bytes_of(logits_TV)});
    real_->softmax_sum(s, sum_T, target_T, logits_TV, max_T, id_T, first_id, valid);
  }
  void softmax_loss(Stream s, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                    int64_t first_id, int64_t valid, bool gradient) const override {
    const Call call(observer_, Op::softmax_loss,
                    {0, bytes_of(loss_T, sum_T, target_T) + (gradient ? 2 * bytes_of(logits_TV) : 0)});
    real_->softmax_loss(s, loss_T, logits_TV, max_T, sum_T, target_T, id_T, first_id, valid, gradient);
  }

  void adamw(Stream s, const AdamWArgs& a) const override {
    const Call call(observer_, Op::adamw, work_of(a));
    real_->adamw(s, a);
  }
  void step_sums(Stream s, const StepSumsArgs& a) const override {
    const Call call(observer_, Op::step_sums, {0, bytes_of(a.squares_S, a.block_S, a.loss_L, a.sums_N)});
    real_->step_sums(s, a);
  }
  void step_control(Stream s, const StepControlArgs& a) const override {
    const Call call(observer_, Op::step_control, {0, bytes_of(a.sums_N, a.control_4)});
    real_->step_control(s, a);
  }
  void sum_squares(Stream s, Tensor out_1, Tensor x, Tensor scratch) const override {
    const Call call(observer_, Op::sum_squares, {0, bytes_of(x)});
    real_->sum_squares(s, out_1, x, scratch);
  }
  void sum(Stream s, Tensor out_1, Tensor x, Tensor scratch) const override {
    const Call call(observer_, Op::sum, {0, bytes_of(x)});
    real_->sum(s, out_1, x, scratch);
  }

  bool remakes_activations() const override { return real_->remakes_activations(); }
  std::string describe(const AttentionArgs& args) const override { return real_->describe(args); }

  size_t scratch_bytes(const GemmArgs& args) const override { return real_->scratch_bytes(args); }
  size_t scratch_bytes(const NormBackwardArgs& args) const override { return real_->scratch_bytes(args); }
  size_t scratch_bytes(const AttentionArgs& args) const override { return real_->scratch_bytes(args); }
  size_t scratch_bytes(const AttentionBackwardArgs& args) const override { return real_->scratch_bytes(args); }
  size_t embedding_scratch_bytes(int64_t tokens, int64_t rows) const override {
    return real_->embedding_scratch_bytes(tokens, rows);
  }
  size_t bias_scratch_bytes(int64_t rows, int64_t columns) const override {
    return real_->bias_scratch_bytes(rows, columns);
  }
  size_t sum_scratch_bytes() const override { return real_->sum_scratch_bytes(); }
  int64_t softmax_rows(Tensor logits_TV) const override { return real_->softmax_rows(logits_TV); }

 private:
  class Call {
   public:
    Call(OpObserver& observer, Op op, Work work) : observer_(observer) { observer_.begin({op, work}); }
    ~Call() { observer_.end(); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    OpObserver& observer_;
  };

  const std::unique_ptr<Ops> real_;
  OpObserver& observer_;
};

}  // namespace

std::string_view op_name(Op op) { return kNames[static_cast<size_t>(op)]; }

std::unique_ptr<Ops> make_observed_ops(std::unique_ptr<Ops> real, OpObserver& observer) {
  return std::make_unique<ObservedOps>(std::move(real), observer);
}

}  // namespace trident
