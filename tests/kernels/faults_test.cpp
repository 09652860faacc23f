// Proof that the case list sees: the reference with one small, plausible mistake in one operation must be refused by
// that operation's cases. A mistake that passes here means cases too weak or bounds too wide.
#include <algorithm>
#include <memory>

#include "compare.h"
#include "core/base/error.h"
#include "kernels/reference/reference_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

enum class Fault {
  gemm_overwrites_instead_of_accumulating,
  gemm_forgets_bias,
  gemm_keeps_half_precision_sums,
  norm_has_another_eps,
  norm_forgets_the_stream,
  norm_drops_by_the_first_rows_mask,
  norm_is_of_the_sum_before_rounding,
  norm_backward_forgets_residual,
  norm_backward_overwrites_dw,
  rope_starts_at_one,
  rope_turns_backwards,
  attention_scale_off_by_a_thousandth,
  attention_sees_the_future,
  attention_forgets_first_head,
  attention_drops_by_another_key,
  attention_backward_scale_off_by_a_thousandth,
  gelu_is_silu,
  swiglu_swaps_halves,
  gelu_backward_is_silu,
  dropout_forgets_first_row,
  dropout_backward_keeps_all,
  bias_backward_overwrites,
  add_adds_twice,
  scale_truncates,
  embedding_shifts_by_one,
  embedding_backward_misses_the_last_token,
  position_restarts_at_each_rank,
  softmax_counts_padding,
  softmax_loss_leaves_ignored_gradient,
  adamw_forgets_grad_scale,
  adamw_skips_bias_correction,
  adamw_rounds_to_nearest,
  adamw_rounds_by_the_local_index,
  adamw_ignores_rows,
  adamw_rounds_state_by_weight_key,
  adamw_ignores_control,
  step_sums_counts_others,
  step_control_does_not_clip,
  sum_squares_in_float,
};

/// The reference but for one fault. `compare` has an oracle of its own, which stays right.
class FaultyOps final : public Ops {
 public:
  explicit FaultyOps(Fault fault) : fault_(fault) {}

  void gemm(Stream s, const GemmArgs& args) const override {
    GemmArgs a = args;
    if (is(Fault::gemm_overwrites_instead_of_accumulating)) a.accumulate = false;
    if (is(Fault::gemm_forgets_bias)) a.bias_N = {};
    right_->gemm(s, a);
    if (is(Fault::gemm_keeps_half_precision_sums) && a.c_MN.dtype == DType::f32) {
      float* c = a.c_MN.as<float>();
      for (int64_t i = 0; i < a.c_MN.numel(); ++i) c[i] = static_cast<float>(bf16(c[i]));
    }
  }
  void norm_forward(Stream s, const NormArgs& args) const override {
    NormArgs a = args;
    if (is(Fault::norm_has_another_eps)) a.eps *= 2;
    if (is(Fault::norm_forgets_the_stream)) a.stream_TD = {};
    if (is(Fault::norm_drops_by_the_first_rows_mask)) a.drop.first_row = 0;
    if (is(Fault::norm_is_of_the_sum_before_rounding) && a.addend_TD.defined()) return norm_unrounded(s, a);
    right_->norm_forward(s, a);
  }
  void norm_backward(Stream s, const NormBackwardArgs& args) const override {
    NormBackwardArgs a = args;
    if (is(Fault::norm_backward_forgets_residual)) a.residual_TD = {};
    if (is(Fault::norm_backward_overwrites_dw)) right_->scale(s, a.dw_D, a.dw_D, 0);
    right_->norm_backward(s, a);
  }
  void rope(Stream s, const RopeArgs& args) const override {
    RopeArgs a = args;
    if (is(Fault::rope_turns_backwards)) a.inverse = !a.inverse;
    right_->rope(s, a);
    if (is(Fault::rope_starts_at_one)) {
      a.context = 1 << 20;  // one more turn by each pair's own angle: position 1 for every row
      for (int64_t t = 0; t < a.qkv.dim[0]; ++t) turn_once(s, a, t);
    }
  }
  void attention_forward(Stream s, const AttentionArgs& args) const override {
    AttentionArgs a = args;
    if (is(Fault::attention_scale_off_by_a_thousandth)) a.scale *= 1.001f;
    if (is(Fault::attention_sees_the_future)) a.causal = false;
    if (is(Fault::attention_forgets_first_head)) a.first_head = 0;
    if (is(Fault::attention_drops_by_another_key)) a.dropout_key.step += 1;
    right_->attention_forward(s, a);
  }
  void attention_backward(Stream s, const AttentionBackwardArgs& args) const override {
    AttentionBackwardArgs a = args;
    if (is(Fault::attention_backward_scale_off_by_a_thousandth)) a.forward.scale *= 1.001f;
    right_->attention_backward(s, a);
  }
  void activation_forward(Stream s, ActivationKind kind, Tensor y_TF, Tensor x) const override {
    if (is(Fault::gelu_is_silu) && kind == ActivationKind::gelu_tanh) kind = ActivationKind::silu;
    if (is(Fault::swiglu_swaps_halves) && kind == ActivationKind::swiglu) {
      std::vector<char> swapped(x.bytes());
      const size_t half = static_cast<size_t>(x.dim[1]) / 2 * dtype_bytes(x.dtype);
      const char* from = static_cast<const char*>(x.data);
      for (size_t i = 0; i < x.bytes(); ++i) swapped[i] = from[i / half % 2 == 0 ? i + half : i - half];
      x.data = swapped.data();
      return right_->activation_forward(s, kind, y_TF, x);
    }
    right_->activation_forward(s, kind, y_TF, x);
  }
  void activation_backward(Stream s, ActivationKind kind, Tensor dx, Tensor dy_TF, Tensor x) const override {
    if (is(Fault::gelu_backward_is_silu) && kind == ActivationKind::gelu_tanh) kind = ActivationKind::silu;
    right_->activation_backward(s, kind, dx, dy_TF, x);
  }
  void dropout_add(Stream s, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec& spec) const override {
    DropoutSpec d = spec;
    if (is(Fault::dropout_forgets_first_row)) d.first_row = 0;
    right_->dropout_add(s, y_TN, x_TN, z_TN, d);
  }
  void dropout_backward(Stream s, Tensor dz_TN, Tensor dy_TN, const DropoutSpec& spec) const override {
    DropoutSpec d = spec;
    if (is(Fault::dropout_backward_keeps_all)) d.p = 0;
    right_->dropout_backward(s, dz_TN, dy_TN, d);
  }
  void bias_backward(Stream s, Tensor db_N, Tensor dy_TN, Tensor scratch) const override {
    if (is(Fault::bias_backward_overwrites)) right_->scale(s, db_N, db_N, 0);
    right_->bias_backward(s, db_N, dy_TN, scratch);
  }
  void bias_add(Stream s, Tensor x_TN, Tensor b_N) const override { right_->bias_add(s, x_TN, b_N); }
  void add(Stream s, Tensor y, Tensor x) const override {
    right_->add(s, y, x);
    if (is(Fault::add_adds_twice)) right_->add(s, y, x);
  }
  void scale(Stream s, Tensor y, Tensor x, float factor) const override {
    right_->scale(s, y, x, factor);
    if (is(Fault::scale_truncates) && x.dtype == DType::f32 && y.dtype == DType::bf16 && factor == 1) {
      for (int64_t i = 0; i < y.numel(); ++i) {
        y.as<bf16>()[i].bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(x.as<float>()[i]) >> 16);
      }
    }
  }
  void embedding_forward(Stream s, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const override {
    right_->embedding_forward(s, y_TD, id_T, table_VD, first_id + (is(Fault::embedding_shifts_by_one) ? 1 : 0));
  }
  void embedding_backward(Stream s, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                          Tensor scratch) const override {
    const bool misses = is(Fault::embedding_backward_misses_the_last_token) && id_T.dim[0] > 0;
    const int64_t tokens = id_T.dim[0] - (misses ? 1 : 0);
    right_->embedding_backward(s, dtable_VD, id_T.rows(0, tokens), dy_TD.rows(0, tokens), first_id, scratch);
  }
  void position_forward(Stream s, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const override {
    if (is(Fault::position_restarts_at_each_rank)) first_row = 0;
    right_->position_forward(s, y_TD, table_PD, first_row, context);
  }
  void position_backward(Stream s, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const override {
    right_->position_backward(s, dtable_PD, dy_TD, first_row, context);
  }
  void softmax_max(Stream s, Tensor max_T, Tensor logits_TV, int64_t valid) const override {
    right_->softmax_max(s, max_T, logits_TV, is(Fault::softmax_counts_padding) ? logits_TV.dim[1] : valid);
  }
  void softmax_sum(Stream s, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                   int64_t first_id, int64_t valid) const override {
    right_->softmax_sum(s, sum_T, target_T, logits_TV, max_T, id_T, first_id, valid);
  }
  void softmax_loss(Stream s, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                    int64_t first_id, int64_t valid, bool gradient) const override {
    std::vector<int32_t> ids(id_T.as<int32_t>(), id_T.as<int32_t>() + id_T.numel());
    if (is(Fault::softmax_loss_leaves_ignored_gradient)) {
      for (int32_t& id : ids) id = std::max(id, 0);
      id_T.data = ids.data();
    }
    right_->softmax_loss(s, loss_T, logits_TV, max_T, sum_T, target_T, id_T, first_id, valid, gradient);
  }
  void adamw(Stream s, const AdamWArgs& args) const override {
    AdamWArgs a = args;
    if (is(Fault::adamw_forgets_grad_scale)) a.grad_scale = 1;
    if (is(Fault::adamw_skips_bias_correction)) a.step = 1'000'000;
    if (is(Fault::adamw_rounds_to_nearest)) a.stochastic_rounding = false;
    if (is(Fault::adamw_rounds_by_the_local_index)) a.element.first = 0;
    if (is(Fault::adamw_ignores_rows)) a.element.columns = 0;
    if (is(Fault::adamw_rounds_state_by_weight_key)) a.state_key = a.rounding_key;
    if (is(Fault::adamw_ignores_control)) a.control_4 = {};
    right_->adamw(s, a);
  }
  void step_sums(Stream s, const StepSumsArgs& args) const override {
    right_->step_sums(s, args);
    if (is(Fault::step_sums_counts_others)) args.sums_N.as<double>()[0] *= 2;
  }
  void step_control(Stream s, const StepControlArgs& args) const override {
    StepControlArgs a = args;
    if (is(Fault::step_control_does_not_clip)) a.max_norm = 0;
    right_->step_control(s, a);
  }
  void sum_squares(Stream s, Tensor out_1, Tensor x, Tensor scratch) const override {
    right_->sum_squares(s, out_1, x, scratch);
    if (is(Fault::sum_squares_in_float)) *out_1.as<double>() = static_cast<float>(*out_1.as<double>());
  }
  void sum(Stream s, Tensor out_1, Tensor x, Tensor scratch) const override { right_->sum(s, out_1, x, scratch); }

 private:
  bool is(Fault fault) const { return fault_ == fault; }

  /// norm_forward with the joined x kept in f32.
  void norm_unrounded(Stream s, const NormArgs& args) const {
    std::vector<std::vector<float>> wide;
    const auto widen = [&](const Tensor& t) {
      if (!t.defined()) return t;
      wide.emplace_back(static_cast<size_t>(t.numel()));
      const Tensor copy(wide.back().data(), DType::f32, std::span(t.dim).first(static_cast<size_t>(t.rank)));
      right_->scale(s, copy, t, 1);
      return copy;
    };
    NormArgs a = args;
    for (Tensor* t : {&a.w_D, &a.b_D, &a.stream_TD, &a.addend_TD, &a.x_TD, &a.y_TD}) *t = widen(*t);
    right_->norm_forward(s, a);
    right_->scale(s, args.x_TD, a.x_TD, 1);
    right_->scale(s, args.y_TD, a.y_TD, 1);
  }

  /// Turns row t as if it stood at position 1: row 1 of a two-row copy.
  void turn_once(Stream s, const RopeArgs& args, int64_t t) const {
    const Tensor row = args.qkv.rows(t, t + 1);
    std::vector<char> two(2 * row.bytes());
    std::copy_n(static_cast<const char*>(row.data), row.bytes(), two.begin() + static_cast<ptrdiff_t>(row.bytes()));
    RopeArgs a = args;
    a.context = 2;
    a.qkv = Tensor(two.data(), row.dtype, {2, row.dim[1]});
    right_->rope(s, a);
    std::copy_n(two.begin() + static_cast<ptrdiff_t>(row.bytes()), row.bytes(), static_cast<char*>(row.data));
  }

  Fault fault_;
  std::unique_ptr<Ops> right_ = make_reference_ops();
};

/// How many of the family's cases in this dtype ("" for all) refuse the fault.
int refusals(Fault fault, const std::vector<Case>& list, const std::string& dtype) {
  const FaultyOps ops(fault);
  const std::unique_ptr<Room> room = make_host_room();
  int count = 0;
  for (const Case& c : list) {
    if (c.name.find(dtype) == std::string::npos) continue;
    count += compare(ops, c, *room).empty() ? 0 : 1;
  }
  return count;
}

}  // namespace

TEST_CASE("every planted fault is refused by its family's cases") {
  struct Plant {
    Fault fault;
    std::vector<Case> (*family)();
    const char* dtype;  ///< cases whose name has this
  };
  const Plant plants[] = {
      {Fault::gemm_overwrites_instead_of_accumulating, gemm_cases, "17x31x65 bf16->bf16"},
      {Fault::gemm_forgets_bias, gemm_cases, "17x31x65 bf16->bf16"},
      {Fault::gemm_keeps_half_precision_sums, gemm_cases, "17x31x65 bf16->f32"},
      {Fault::norm_has_another_eps, norm_cases, "_forward 9x768 f32"},
      {Fault::norm_forgets_the_stream, norm_cases, "_joined 9x768 bf16"},
      {Fault::norm_drops_by_the_first_rows_mask, norm_cases, "_joined 9x768 bf16"},
      {Fault::norm_is_of_the_sum_before_rounding, norm_cases, "_joined 9x768 bf16"},
      {Fault::norm_backward_forgets_residual, norm_cases, "_backward 9x768 bf16"},
      {Fault::norm_backward_overwrites_dw, norm_cases, "_backward 9x768 bf16"},
      {Fault::rope_starts_at_one, rope_cases, " bf16"},
      {Fault::rope_turns_backwards, rope_cases, " bf16"},
      {Fault::attention_scale_off_by_a_thousandth, attention_cases, "_forward 2x33 heads 3/3 of 96 f32"},
      {Fault::attention_sees_the_future, attention_cases, "_forward 2x33 heads 3/3 of 96 bf16"},
      {Fault::attention_forgets_first_head, attention_cases, "bf16 dropout"},
      {Fault::attention_drops_by_another_key, attention_cases, "bf16 dropout"},
      {Fault::attention_backward_scale_off_by_a_thousandth, attention_cases, "_backward 2x33 heads 3/3 of 96 f32"},
      {Fault::gelu_is_silu, activation_cases, "gelu_tanh_forward 17x64 bf16"},
      {Fault::swiglu_swaps_halves, activation_cases, "swiglu_forward 17x64 bf16"},
      {Fault::gelu_backward_is_silu, activation_cases, "gelu_tanh_backward 17x64 bf16"},
      {Fault::dropout_forgets_first_row, dropout_cases, "add 17x64 bf16"},
      {Fault::dropout_backward_keeps_all, dropout_cases, "backward 17x64 bf16"},
      {Fault::bias_backward_overwrites, elementwise_cases, "bias_backward 17x64 bf16"},
      {Fault::add_adds_twice, elementwise_cases, "add 33 bf16"},
      {Fault::scale_truncates, elementwise_cases, "scale 33 bf16 = 1 f32"},
      {Fault::embedding_shifts_by_one, embedding_cases, "embedding_forward 33x7"},
      {Fault::embedding_backward_misses_the_last_token, embedding_cases, "embedding_backward"},
      {Fault::position_restarts_at_each_rank, embedding_cases, "position_forward"},
      {Fault::softmax_counts_padding, loss_cases, "softmax_max 7x33"},
      {Fault::softmax_loss_leaves_ignored_gradient, loss_cases, "softmax_loss 7x33"},
      {Fault::adamw_forgets_grad_scale, optimizer_cases, "adamw 33"},
      {Fault::adamw_skips_bias_correction, optimizer_cases, "adamw 33"},
      {Fault::adamw_rounds_to_nearest, optimizer_cases, "rate 0"},
      {Fault::adamw_rounds_by_the_local_index, optimizer_cases, "rate 0"},
      {Fault::adamw_rounds_by_the_local_index, optimizer_cases, "exact state"},
      {Fault::adamw_ignores_rows, optimizer_cases, "rows of"},
      {Fault::adamw_rounds_state_by_weight_key, optimizer_cases, "exact state"},
      {Fault::adamw_ignores_control, optimizer_cases, "not applied"},
      {Fault::step_sums_counts_others, step_cases, "step_sums"},
      {Fault::step_control_does_not_clip, step_cases, "clips"},
      {Fault::sum_squares_in_float, optimizer_cases, "sum_squares 1001"},
  };
  for (const Plant& plant : plants) {
    CAPTURE(static_cast<int>(plant.fault), plant.dtype);
    CHECK(refusals(plant.fault, plant.family(), plant.dtype) > 0);
  }
}
