#include "kernels/check.h"

#include <array>

#include "core/base/error.h"

namespace trident {
namespace {

/// One operation's tensors by name, kept as addresses: text is built only when a rule is broken.
struct Named {
  const char* name;
  const Tensor* tensor;
};

template <size_t N>
class Rules {
 public:
  Rules(const char* op, const std::array<Named, N>& tensors) : op_(op), tensors_(tensors) {}

  void require(bool ok, const char* rule) const {
    if (ok) return;
    std::string text = build_string(op_, ": ", rule, "; got");
    for (const Named& t : tensors_) {
      text += build_string(" ", t.name, "=", t.tensor->defined() ? t.tensor->describe() : "absent");
    }
    throw InternalError(text);
  }

 private:
  const char* op_;
  std::array<Named, N> tensors_;
};

template <class... More>
Rules<1 + sizeof...(More)> rules(const char* op, Named first, More... more) {
  return {op, std::array<Named, 1 + sizeof...(More)>{first, more...}};
}

bool is_matrix(const Tensor& t, int64_t rows, int64_t columns) {
  return t.rank == 2 && t.dim[0] == rows && t.dim[1] == columns;
}
bool is_vector(const Tensor& t, int64_t n) { return t.rank == 1 && t.dim[0] == n; }
bool same_shape(const Tensor& a, const Tensor& b) { return a.rank == b.rank && a.dim == b.dim; }
bool same_kind(const Tensor& a, const Tensor& b) { return a.dtype == b.dtype && same_shape(a, b); }
bool is_statistic(const Tensor& t, const Tensor& of) { return t.dtype == statistics_dtype(of.dtype); }
bool absent_or_bytes(const Tensor& scratch) {
  return !scratch.defined() || (scratch.rank == 1 && scratch.dtype == DType::u8);
}

bool is_dropout(const DropoutSpec& spec) { return spec.p >= 0 && spec.p < 1 && spec.first_row >= 0; }
constexpr const char* kDropoutRule = "p is in [0, 1) and first_row is not negative";

template <class R>
void require_norm(const R& r, const NormArgs& a) {
  const bool layer = a.kind == NormKind::layer_norm;
  r.require(a.x_TD.rank == 2 && is_float(a.x_TD.dtype), "x is [T, D] of a float dtype");
  const int64_t rows = a.x_TD.dim[0], columns = a.x_TD.dim[1];
  r.require(columns >= 1, "D is at least 1");
  r.require(is_vector(a.w_D, columns) && a.w_D.dtype == a.x_TD.dtype, "w is [D] of x's dtype");
  r.require(is_vector(a.rstd_T, rows) && is_statistic(a.rstd_T, a.x_TD), "rstd is [T], f32 (f64 beside f64)");
  if (layer) {
    r.require(is_vector(a.mean_T, rows) && is_statistic(a.mean_T, a.x_TD), "mean is [T], f32 (f64 beside f64)");
  } else {
    r.require(!a.mean_T.defined() && !a.b_D.defined(), "RMSNorm has no mean and no b");
  }
}

}  // namespace

void check(const GemmArgs& a) {
  const auto r =
      rules("gemm", Named{"c_MN", &a.c_MN}, Named{"a", &a.a}, Named{"b", &a.b}, Named{"bias_N", &a.bias_N},
            Named{"activated_MN", &a.activated_MN}, Named{"bias_grad_M", &a.bias_grad_M}, Named{"scratch", &a.scratch});
  r.require(a.c_MN.rank == 2 && a.a.rank == 2 && a.b.rank == 2, "c, a and b are matrices");
  const int64_t m = a.c_MN.dim[0], n = a.c_MN.dim[1], k = a.transpose_a ? a.a.dim[0] : a.a.dim[1];
  r.require(a.transpose_a ? is_matrix(a.a, k, m) : is_matrix(a.a, m, k), "op(a) is [M, K]");
  r.require(a.transpose_b ? is_matrix(a.b, n, k) : is_matrix(a.b, k, n), "op(b) is [K, N]");
  r.require(is_float(a.a.dtype) && a.a.dtype == a.b.dtype, "a and b share a float dtype");
  r.require(a.c_MN.dtype == a.a.dtype || a.c_MN.dtype == DType::f32, "c has a's dtype or f32");
  if (a.bias_N.defined()) {
    r.require(!a.accumulate, "bias is not combined with accumulate");
    r.require(is_vector(a.bias_N, n) && a.bias_N.dtype == a.a.dtype, "bias is [N] of a's dtype");
  }
  if (a.activated_MN.defined()) {
    r.require(!a.accumulate, "an activation is not combined with accumulate");
    r.require(!is_gated(a.activation), "a gated activation is an operation of its own");
    r.require(a.c_MN.dtype == a.a.dtype && same_kind(a.activated_MN, a.c_MN), "activated is like c, of a's dtype");
  }
  if (a.bias_grad_M.defined()) {
    r.require(a.transpose_a, "a bias gradient needs transpose_a: a is dy [K, M]");
    r.require(is_vector(a.bias_grad_M, m) && is_statistic(a.bias_grad_M, a.a),
              "bias_grad is [M], f32 (f64 beside f64)");
  }
  r.require(absent_or_bytes(a.scratch), "scratch is u8[bytes]");
}

void check_norm_forward(const NormArgs& a) {
  const auto r = rules("norm_forward", Named{"y_TD", &a.y_TD}, Named{"mean_T", &a.mean_T}, Named{"rstd_T", &a.rstd_T},
                       Named{"x_TD", &a.x_TD}, Named{"w_D", &a.w_D}, Named{"b_D", &a.b_D},
                       Named{"stream_TD", &a.stream_TD}, Named{"addend_TD", &a.addend_TD});
  require_norm(r, a);
  r.require(same_kind(a.y_TD, a.x_TD), "y is like x");
  r.require(!a.b_D.defined() || same_kind(a.b_D, a.w_D), "b is like w");
  if (a.addend_TD.defined()) {
    r.require(same_kind(a.addend_TD, a.x_TD), "addend is like x");
    r.require(!a.stream_TD.defined() || same_kind(a.stream_TD, a.x_TD), "stream is like x");
    r.require(is_dropout(a.drop), kDropoutRule);
  } else {
    r.require(!a.stream_TD.defined() && a.drop.p == 0, "stream and dropout come with an addend");
  }
}

void check(const NormBackwardArgs& a) {
  const NormArgs& f = a.forward;
  const auto r =
      rules("norm_backward", Named{"dx_TD", &a.dx_TD}, Named{"dy_TD", &a.dy_TD}, Named{"residual_TD", &a.residual_TD},
            Named{"dw_D", &a.dw_D}, Named{"db_D", &a.db_D}, Named{"mean_T", &f.mean_T}, Named{"rstd_T", &f.rstd_T},
            Named{"x_TD", &f.x_TD}, Named{"w_D", &f.w_D}, Named{"scratch", &a.scratch});
  require_norm(r, f);
  r.require(same_kind(a.dx_TD, f.x_TD) && same_kind(a.dy_TD, f.x_TD), "dx and dy are like x");
  r.require(!a.residual_TD.defined() || same_kind(a.residual_TD, f.x_TD), "residual is like x");
  r.require(same_shape(a.dw_D, f.w_D) && is_statistic(a.dw_D, f.x_TD), "dw is [D], f32 (f64 beside f64)");
  r.require(!a.db_D.defined() || (f.kind == NormKind::layer_norm && same_kind(a.db_D, a.dw_D)),
            "db is like dw, and absent for RMSNorm");
  r.require(absent_or_bytes(a.scratch), "scratch is u8[bytes]");
}

void check(const RopeArgs& a) {
  const auto r = rules("rope", Named{"qkv", &a.qkv});
  r.require(a.qkv.rank == 2 && is_float(a.qkv.dtype), "qkv is [T, (H+2G)K] of a float dtype");
  r.require(a.context >= 1, "context is positive");
  r.require(a.head_size >= 2 && a.head_size % 2 == 0, "head_size is even");
  r.require(a.heads >= 0 && a.heads * a.head_size <= a.qkv.dim[1], "the rotated heads lie inside the row");
}

void check(const AttentionArgs& a) {
  const auto r = rules("attention", Named{"out", &a.out}, Named{"lse", &a.lse}, Named{"qkv", &a.qkv},
                       Named{"scratch", &a.scratch});
  r.require(a.context >= 1 && a.head_size >= 1, "context and head_size are positive");
  r.require(a.kv_heads >= 1 && a.heads >= 1 && a.heads % a.kv_heads == 0, "heads is a multiple of kv_heads");
  r.require(a.qkv.rank == 2 && is_float(a.qkv.dtype) && a.qkv.dim[0] % a.context == 0, "qkv has whole sequences");
  const int64_t rows = a.qkv.dim[0];
  r.require(a.qkv.dim[1] == (a.heads + 2 * a.kv_heads) * a.head_size, "qkv is [T, (H+2G)K]");
  r.require(is_matrix(a.out, rows, a.heads * a.head_size) && a.out.dtype == a.qkv.dtype, "out is [T, HK] like qkv");
  r.require(a.lse.rank == 3 && a.lse.dim[0] == rows / a.context && a.lse.dim[1] == a.heads &&
                a.lse.dim[2] == a.context && is_statistic(a.lse, a.qkv),
            "lse is [B, H, C], f32 (f64 beside f64)");
  r.require(a.dropout >= 0 && a.dropout < 1, "dropout is in [0, 1)");
  r.require(a.dropout == 0 || (a.first_head >= 0 && a.first_head + a.heads <= a.heads_total),
            "with dropout this rank's heads lie inside heads_total");
  r.require(absent_or_bytes(a.scratch), "scratch is u8[bytes]");
}

void check(const AttentionBackwardArgs& a) {
  check(a.forward);
  const auto r = rules("attention_backward", Named{"dqkv", &a.dqkv}, Named{"dout", &a.dout},
                       Named{"qkv", &a.forward.qkv}, Named{"out", &a.forward.out}, Named{"scratch", &a.scratch});
  r.require(same_kind(a.dqkv, a.forward.qkv), "dqkv is like qkv");
  r.require(same_kind(a.dout, a.forward.out), "dout is like out");
  r.require(absent_or_bytes(a.scratch), "scratch is u8[bytes]");
}

void check_activation_forward(ActivationKind kind, const Tensor& y_TF, const Tensor& x) {
  const auto r = rules("activation_forward", Named{"y_TF", &y_TF}, Named{"x", &x});
  r.require(y_TF.rank == 2 && is_float(y_TF.dtype) && x.dtype == y_TF.dtype, "y and x are matrices of a float dtype");
  r.require(is_matrix(x, y_TF.dim[0], y_TF.dim[1] * (is_gated(kind) ? 2 : 1)), "x is [T, F], for swiglu [T, 2F]");
}

void check_activation_backward(ActivationKind kind, const Tensor& dx, const Tensor& dy_TF, const Tensor& x) {
  const auto r = rules("activation_backward", Named{"dx", &dx}, Named{"dy_TF", &dy_TF}, Named{"x", &x});
  r.require(dy_TF.rank == 2 && is_float(dy_TF.dtype) && x.dtype == dy_TF.dtype, "dy and x are float matrices");
  r.require(is_matrix(x, dy_TF.dim[0], dy_TF.dim[1] * (is_gated(kind) ? 2 : 1)), "x is [T, F], for swiglu [T, 2F]");
  r.require(same_kind(dx, x), "dx is like x");
}

void check_dropout_add(const Tensor& y_TN, const Tensor& x_TN, const Tensor& z_TN, const DropoutSpec& spec) {
  const auto r = rules("dropout_add", Named{"y_TN", &y_TN}, Named{"x_TN", &x_TN}, Named{"z_TN", &z_TN});
  r.require(y_TN.rank == 2 && is_float(y_TN.dtype), "y is [T, N] of a float dtype");
  r.require(same_kind(z_TN, y_TN) && (!x_TN.defined() || same_kind(x_TN, y_TN)), "x and z are like y");
  r.require(is_dropout(spec), kDropoutRule);
}

void check_dropout_backward(const Tensor& dz_TN, const Tensor& dy_TN, const DropoutSpec& spec) {
  const auto r = rules("dropout_backward", Named{"dz_TN", &dz_TN}, Named{"dy_TN", &dy_TN});
  r.require(dy_TN.rank == 2 && is_float(dy_TN.dtype), "dy is [T, N] of a float dtype");
  r.require(same_kind(dz_TN, dy_TN), "dz is like dy");
  r.require(is_dropout(spec), kDropoutRule);
}

void check_bias_backward(const Tensor& db_N, const Tensor& dy_TN) {
  const auto r = rules("bias_backward", Named{"db_N", &db_N}, Named{"dy_TN", &dy_TN});
  r.require(dy_TN.rank == 2 && is_float(dy_TN.dtype), "dy is [T, N] of a float dtype");
  r.require(is_vector(db_N, dy_TN.dim[1]) && is_statistic(db_N, dy_TN), "db is [N], f32 (f64 beside f64)");
}

void check_bias_add(const Tensor& x_TN, const Tensor& b_N) {
  const auto r = rules("bias_add", Named{"x_TN", &x_TN}, Named{"b_N", &b_N});
  r.require(x_TN.rank == 2 && is_float(x_TN.dtype), "x is [T, N] of a float dtype");
  r.require(is_vector(b_N, x_TN.dim[1]) && b_N.dtype == x_TN.dtype, "b is [N] of x's dtype");
}

void check_elementwise(const char* op, const Tensor& y, const Tensor& x) {
  const auto r = rules(op, Named{"y", &y}, Named{"x", &x});
  r.require(y.defined() && x.defined() && is_float(y.dtype) && is_float(x.dtype), "y and x are float tensors");
  r.require(y.numel() == x.numel(), "y and x have as many elements");
}

void check_embedding_forward(const Tensor& y_TD, const Tensor& id_T, const Tensor& table_VD) {
  const auto r = rules("embedding_forward", Named{"y_TD", &y_TD}, Named{"id_T", &id_T}, Named{"table_VD", &table_VD});
  r.require(y_TD.rank == 2 && is_float(y_TD.dtype), "y is [T, D] of a float dtype");
  r.require(is_vector(id_T, y_TD.dim[0]) && id_T.dtype == DType::i32, "id is i32[T]");
  r.require(table_VD.rank == 2 && table_VD.dim[1] == y_TD.dim[1] && table_VD.dtype == y_TD.dtype,
            "table is [V, D] of y's dtype");
}

void check_embedding_backward(const Tensor& dtable_VD, const Tensor& id_T, const Tensor& dy_TD, const Tensor& scratch) {
  const auto r = rules("embedding_backward", Named{"dtable_VD", &dtable_VD}, Named{"id_T", &id_T},
                       Named{"dy_TD", &dy_TD}, Named{"scratch", &scratch});
  r.require(dy_TD.rank == 2 && is_float(dy_TD.dtype), "dy is [T, D] of a float dtype");
  r.require(is_vector(id_T, dy_TD.dim[0]) && id_T.dtype == DType::i32, "id is i32[T]");
  r.require(dtable_VD.rank == 2 && dtable_VD.dim[1] == dy_TD.dim[1] && is_statistic(dtable_VD, dy_TD),
            "dtable is [V, D], f32 (f64 beside f64)");
  r.require(absent_or_bytes(scratch), "scratch is u8[bytes]");
}

void check_position_forward(const Tensor& y_TD, const Tensor& table_PD, int64_t first_row, int64_t context) {
  const auto r = rules("position_forward", Named{"y_TD", &y_TD}, Named{"table_PD", &table_PD});
  r.require(y_TD.rank == 2 && is_float(y_TD.dtype), "y is [T, D] of a float dtype");
  r.require(table_PD.rank == 2 && table_PD.dim[1] == y_TD.dim[1] && table_PD.dtype == y_TD.dtype,
            "table is [P, D] of y's dtype");
  r.require(first_row >= 0 && context >= 1 && context <= table_PD.dim[0], "context positions fit the table");
}

void check_position_backward(const Tensor& dtable_PD, const Tensor& dy_TD, int64_t first_row, int64_t context) {
  const auto r = rules("position_backward", Named{"dtable_PD", &dtable_PD}, Named{"dy_TD", &dy_TD});
  r.require(dy_TD.rank == 2 && is_float(dy_TD.dtype), "dy is [T, D] of a float dtype");
  r.require(dtable_PD.rank == 2 && dtable_PD.dim[1] == dy_TD.dim[1] && is_statistic(dtable_PD, dy_TD),
            "dtable is [P, D], f32 (f64 beside f64)");
  r.require(first_row >= 0 && context >= 1 && context <= dtable_PD.dim[0], "context positions fit the table");
}

namespace {

template <class R>
void require_logits(const R& r, const Tensor& logits_TV, int64_t valid) {
  r.require(logits_TV.rank == 2 && is_float(logits_TV.dtype), "logits is [T, V] of a float dtype");
  r.require(valid >= 0 && valid <= logits_TV.dim[1], "valid columns lie inside V");
}

bool is_row_statistic(const Tensor& t, const Tensor& logits_TV) {
  return is_vector(t, logits_TV.dim[0]) && is_statistic(t, logits_TV);
}

}  // namespace

void check_softmax_max(const Tensor& max_T, const Tensor& logits_TV, int64_t valid) {
  const auto r = rules("softmax_max", Named{"max_T", &max_T}, Named{"logits_TV", &logits_TV});
  require_logits(r, logits_TV, valid);
  r.require(is_row_statistic(max_T, logits_TV), "max is [T], f32 (f64 beside f64)");
}

void check_softmax_sum(const Tensor& sum_T, const Tensor& target_T, const Tensor& logits_TV, const Tensor& max_T,
                       const Tensor& id_T, int64_t valid) {
  const auto r = rules("softmax_sum", Named{"sum_T", &sum_T}, Named{"target_T", &target_T},
                       Named{"logits_TV", &logits_TV}, Named{"max_T", &max_T}, Named{"id_T", &id_T});
  require_logits(r, logits_TV, valid);
  r.require(
      is_row_statistic(sum_T, logits_TV) && is_row_statistic(target_T, logits_TV) && is_row_statistic(max_T, logits_TV),
      "sum, target and max are [T], f32 (f64 beside f64)");
  r.require(is_vector(id_T, logits_TV.dim[0]) && id_T.dtype == DType::i32, "id is i32[T]");
}

void check_softmax_loss(const Tensor& loss_T, const Tensor& logits_TV, const Tensor& max_T, const Tensor& sum_T,
                        const Tensor& target_T, const Tensor& id_T, int64_t valid) {
  const auto r = rules("softmax_loss", Named{"loss_T", &loss_T}, Named{"logits_TV", &logits_TV}, Named{"max_T", &max_T},
                       Named{"sum_T", &sum_T}, Named{"target_T", &target_T}, Named{"id_T", &id_T});
  require_logits(r, logits_TV, valid);
  r.require(is_row_statistic(loss_T, logits_TV) && is_row_statistic(max_T, logits_TV) &&
                is_row_statistic(sum_T, logits_TV) && is_row_statistic(target_T, logits_TV),
            "loss, max, sum and target are [T], f32 (f64 beside f64)");
  r.require(is_vector(id_T, logits_TV.dim[0]) && id_T.dtype == DType::i32, "id is i32[T]");
}

void check(const AdamWArgs& a) {
  const auto r = rules("adamw", Named{"master", &a.master}, Named{"m", &a.m}, Named{"v", &a.v}, Named{"grad", &a.grad},
                       Named{"weight", &a.weight}, Named{"control_4", &a.control_4});
  r.require(a.master.rank == 1 && (a.master.dtype == DType::f32 || a.master.dtype == DType::f64),
            "master is flat, f32 (f64 in the reference)");
  r.require(same_kind(a.grad, a.master), "grad is like master");
  r.require(same_shape(a.m, a.master) && same_kind(a.v, a.m), "m and v are as long as master, of one dtype");
  const bool wide_state = a.m.dtype == a.master.dtype, exact = a.master.dtype == DType::f64;
  r.require(a.stochastic_state ? (exact ? wide_state : a.m.dtype == DType::bf16) : wide_state,
            "m and v are f32, or bf16 with stochastic rounding of the state (f64 in the reference)");
  r.require(!a.weight.defined() || (same_shape(a.weight, a.master) && is_float(a.weight.dtype)),
            "weight is as long as master, of a float dtype");
  r.require(a.step >= 1, "step counts from 1");
  if (a.stochastic_rounding) {
    r.require(a.weight.defined() && (a.weight.dtype == DType::bf16 || a.weight.dtype == DType::f64),
              "stochastic rounding makes a bf16 weight (f64 in the reference)");
  }
  const ElementIndex& e = a.element;
  r.require(e.first >= 0 && e.lead >= 0 && e.columns >= 0, "an element's index is not negative");
  r.require(e.columns == 0 || (e.lead < e.columns && e.columns <= e.stride),
            "the first row has elements behind its lead, and rows do not overlap");
  r.require(!a.control_4.defined() || (is_vector(a.control_4, 4) && a.control_4.dtype == a.master.dtype),
            "control is f32[4] (f64 in the reference)");
}

void check(const StepSumsArgs& a) {
  const auto r = rules("step_sums", Named{"sums_N", &a.sums_N}, Named{"squares_S", &a.squares_S},
                       Named{"block_S", &a.block_S}, Named{"loss_L", &a.loss_L});
  r.require(a.sums_N.rank == 1 && a.sums_N.dtype == DType::f64 && a.sums_N.dim[0] >= kStepSums,
            "sums is f64 [blocks + 3]");
  r.require(a.squares_S.rank == 1 && a.squares_S.dtype == DType::f64, "squares is f64 [S]");
  r.require(is_vector(a.block_S, a.squares_S.dim[0]) && a.block_S.dtype == DType::i32, "block is i32 [S]");
  r.require(!a.loss_L.defined() || (a.loss_L.rank == 1 && a.loss_L.dtype == DType::f64), "loss is f64 [L]");
}

void check(const StepControlArgs& a) {
  const auto r = rules("step_control", Named{"control_4", &a.control_4}, Named{"updates_1", &a.updates_1},
                       Named{"sums_N", &a.sums_N});
  r.require(is_vector(a.control_4, 4) && (a.control_4.dtype == DType::f32 || a.control_4.dtype == DType::f64),
            "control is f32[4] (f64 in the reference)");
  r.require(is_vector(a.updates_1, 1) && a.updates_1.dtype == DType::f64, "updates is f64[1]");
  r.require(a.sums_N.rank == 1 && a.sums_N.dtype == DType::f64 && a.sums_N.dim[0] >= kStepSums,
            "sums is f64 [blocks + 3]");
}

void check_total(const char* op, const Tensor& out_1, const Tensor& x) {
  const auto r = rules(op, Named{"out_1", &out_1}, Named{"x", &x});
  r.require(is_vector(out_1, 1) && out_1.dtype == DType::f64, "out is f64[1]");
  r.require(x.defined() && is_float(x.dtype), "x is a float tensor");
}

}  // namespace trident
