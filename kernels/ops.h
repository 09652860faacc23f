// THE list of operations, and the contract of each. Four tables implement it: kernels/reference (double, the oracle),
// kernels/cpu (fast CPU), kernels/cuda and its emulation. Modules call nothing else to compute.
//
// Legend: T tokens (rows, batch-major: token t of sequence s is row s * C + t), C context, B sequences, D hidden,
// F ffn, H query heads, G kv heads, K head size, V vocabulary rows on this rank, N and M any.
//
// Policy: an operation works on `Stream` order, allocates nothing, and owns nothing. Activations and weights have the
// compute dtype (f32, bf16, f16; the reference also f64); statistics (mean, rstd, lse, losses) and gradients of
// parameters are f32 (f64 in the reference when the compute dtype is f64). Accumulation is at least f32. Token ids are
// i32. kernels/check.h holds these rules as code.
// Outputs are overwritten unless the comment says "accumulates". In-place use is legal only where it is said.
// Scratch comes from the caller: `scratch_bytes(args)` says how much, from the shapes alone (dry tensors are fine).
// Scratch is 64-byte aligned and its contents mean nothing; other tensors are aligned to their elements only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/rng.h"
#include "core/base/stream.h"
#include "core/base/tensor.h"
#include "kernels/step_control.h"

namespace trident {

enum class ActivationKind : uint8_t { gelu_tanh, swiglu, relu, silu };

/// True for the activations whose input is twice as wide as their output: [gate | up].
constexpr bool is_gated(ActivationKind kind) { return kind == ActivationKind::swiglu; }

/// c_MN = op(a) op(b) + bias_N, or += with `accumulate`. op transposes when the flag says so; a_MK (a_KM transposed),
/// b_KN (b_NK transposed: the layout of a weight [out, in]). c may be f32 while a, b are bf16/f16.
/// `bias_N` (compute dtype) may be absent; it is not combined with accumulate.
/// Two more outputs, each absent or of its own memory:
///   activated_MN = f(c_MN), c and a of one dtype, not gated, not with accumulate: what backward needs and what the
///   next
///     layer reads, in one call. f may take c before its rounding, or after it, as activation_forward would.
///   bias_grad_M += sum over K of op(a), with transpose_a only: a_KM is then dy of dw = dy^T x, and this its bias's
///     gradient. f32 (f64 beside f64).
struct GemmArgs {
  Tensor c_MN, a, b;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  Tensor bias_N;
  Tensor activated_MN;
  ActivationKind activation = ActivationKind::gelu_tanh;  ///< f of activated_MN
  Tensor bias_grad_M;
  Tensor scratch;  ///< u8, scratch_bytes(args)
};

/// Keep an element when uniform01 >= p and scale it by 1/(1-p). Element (row, col) of a [T, N] tensor uses word
/// (first_row + row) * N + col of `key`: the global row, so that every grid drops the same elements. p = 0: none.
struct DropoutSpec {
  float p = 0;
  RandomKey key;
  int64_t first_row = 0;
};

enum class NormKind : uint8_t { layer_norm, rms_norm };

/// LayerNorm: y = (x - mean) * rstd * w + b (b may be absent); RMSNorm: y = x * rstd * w, mean and b absent.
/// rstd = 1 / sqrt(variance or mean square + eps), statistics in f32.
/// With `addend_TD` a residual joins on the way in and x_TD is an output too: x = stream + dropout(addend), rounded to
/// the compute dtype, and the norm is of the rounded x. `stream_TD` may be absent: x = dropout(addend). x may be stream
/// or addend; y may be none of them. The same bits as dropout_add(x, stream, addend, drop) and then norm_forward.
struct NormArgs {
  NormKind kind = NormKind::layer_norm;
  float eps = 1e-5f;
  Tensor y_TD, mean_T, rstd_T;  ///< outputs of forward; inputs (statistics only) of backward
  Tensor x_TD, w_D, b_D;
  Tensor stream_TD, addend_TD;  ///< both like x; forward only
  DropoutSpec drop;             ///< of addend
};
/// Backward. dx = (gradient through the norm) + residual_TD when that is defined: the residual stream's gradient joins
/// here, in one pass (residual may be dx itself; dy may not). dw, db accumulate.
struct NormBackwardArgs {
  NormArgs forward;  ///< kind, mean, rstd, x, w
  Tensor dx_TD, dy_TD, residual_TD, dw_D, db_D;
  Tensor scratch;
};

/// Rotary embedding, half rotation: pair (i, i + K/2) turned by position * theta^(-2i/K), in place on the first
/// `heads` heads of each row of qkv_T(H+2G)K (query and key heads lie first). `inverse` is the backward.
/// The position of row r is r % context + 0.
struct RopeArgs {
  Tensor qkv;
  int64_t context = 0, heads = 0, head_size = 0;
  double theta = 10000.0;
  bool inverse = false;
};

/// Causal softmax(q k^T * scale) v for B = T / context sequences, without ever holding a [C, C] matrix.
/// Query head h reads kv head h / (H/G). Row layout of qkv: H query heads, G key heads, G value heads, each K wide.
/// Dropout acts on the probabilities: element (sequence, head, query, key) uses word
/// (((first_sequence + s) * heads_total + first_head + h) * context + query) * context_up4 + key, context_up4 = context
/// rounded up to 4.
struct AttentionArgs {
  Tensor out;  ///< [T, H*K]; output of forward, input of backward
  Tensor lse;  ///< f32 [B, H, C]: log-sum-exp of the scaled scores; output of forward, input of backward
  Tensor qkv;  ///< [T, (H+2G)*K]
  int64_t context = 0, heads = 0, kv_heads = 0, head_size = 0;
  float scale = 1;
  bool causal = true;
  float dropout = 0;
  RandomKey dropout_key;
  int64_t first_sequence = 0, first_head = 0, heads_total = 0;
  Tensor scratch;
};
/// dqkv overwritten, all three parts.
struct AttentionBackwardArgs {
  AttentionArgs forward;
  Tensor dqkv, dout;
  Tensor scratch;
};

/// Which element of its whole parameter element i of a flat tensor is, when the tensor is a run of a part [rows,
/// columns] of a parameter whose rows are `stride` elements long: random words are counted so, and every grid draws
/// alike.
struct ElementIndex {
  int64_t first = 0;    ///< of the part's first element in the row that the run begins in
  int64_t lead = 0;     ///< elements of that row before the run, < columns
  int64_t columns = 0;  ///< 0: the part's rows are whole, or it has none; indices run on from first + lead
  int64_t stride = 0;

  constexpr uint64_t operator()(int64_t i) const {
    const int64_t at = lead + i;
    return static_cast<uint64_t>(columns == 0 ? first + at : first + at / columns * stride + at % columns);
  }
  /// How many elements from i on, `limit` at most, have indices that follow each other.
  constexpr int64_t neighbours(int64_t i, int64_t limit) const {
    return columns == 0 || columns - (lead + i) % columns > limit ? limit : columns - (lead + i) % columns;
  }
  /// Whether elements [4 k, 4 k + 4) have the indices [4 j, 4 j + 4), a block of Philox.
  constexpr bool in_fours() const { return first % 4 == 0 && lead % 4 == 0 && columns % 4 == 0 && stride % 4 == 0; }
};

/// AdamW exactly as in PyTorch (Loshchilov and Hutter, arXiv 1711.05101), one pass over flat tensors of equal length:
/// g = grad * grad_scale; master *= 1 - lr * weight_decay; m, v updated; master -= lr_t * m / (sqrt(v)/sqrt(1-b2^t) +
/// eps). grad and master are f32, m and v f32 or both bf16. `weight` (compute dtype, may be absent or alias master when
/// f32) receives the rounded master. With `stochastic_rounding` a
/// bf16 weight is one of the master's two bf16 neighbours, the upper one (in magnitude) with the probability that the
/// dropped bits are a share of the gap, so that its expectation is the master (stochastic_bf16 of core/base/dtype.h).
/// Element i uses word element(i) of `rounding_key`: with the parameter's own index, every grid rounds alike. It needs
/// a bf16 weight. With `stochastic_state` m and v are bf16, and are so rounded when they are written: rounded to
/// nearest, a v that moves by 1 - beta2 = 0.001 of itself a step would never move. The update itself takes them before
/// they are rounded. Element i uses word element(i) of `state_key`, its upper 16 bits for m, its lower 16 for v; a key
/// that is another than `rounding_key`, and another every step.
struct AdamWArgs {
  Tensor master, m, v, grad, weight;
  float lr = 0, beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0;
  float grad_scale = 1;
  int64_t step = 1;  ///< t, from 1
  bool stochastic_rounding = false;
  bool stochastic_state = false;
  RandomKey rounding_key, state_key;
  ElementIndex element;
  /// f32[4] from step_control, or absent: replaces grad_scale and step, and when it says so nothing changes at all.
  Tensor control_4;
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual void gemm(Stream, const GemmArgs&) const = 0;

  virtual void norm_forward(Stream, const NormArgs&) const = 0;
  virtual void norm_backward(Stream, const NormBackwardArgs&) const = 0;

  virtual void rope(Stream, const RopeArgs&) const = 0;
  virtual void attention_forward(Stream, const AttentionArgs&) const = 0;
  virtual void attention_backward(Stream, const AttentionBackwardArgs&) const = 0;

  /// y = f(x). gelu_tanh, relu, silu: y_TF, x_TF. swiglu: y_TF = silu(gate) * up with x_T(2F) = [gate | up].
  virtual void activation_forward(Stream, ActivationKind, Tensor y_TF, Tensor x) const = 0;
  /// dx = df/dx * dy; dx has x's shape and may be x itself.
  virtual void activation_backward(Stream, ActivationKind, Tensor dx, Tensor dy_TF, Tensor x) const = 0;

  /// y_TN = x_TN + dropout(z_TN); y may be x or z. x may be absent: y = dropout(z).
  virtual void dropout_add(Stream, Tensor y_TN, Tensor x_TN, Tensor z_TN, const DropoutSpec&) const = 0;
  /// dz = dropout mask applied to dy; may be in place.
  virtual void dropout_backward(Stream, Tensor dz_TN, Tensor dy_TN, const DropoutSpec&) const = 0;

  /// db_N += column sums of dy_TN (db f32).
  virtual void bias_backward(Stream, Tensor db_N, Tensor dy_TN, Tensor scratch) const = 0;
  /// x_TN += b_N in place.
  virtual void bias_add(Stream, Tensor x_TN, Tensor b_N) const = 0;
  /// y += x, elementwise, any two float dtypes.
  virtual void add(Stream, Tensor y, Tensor x) const = 0;
  /// y = x * factor, elementwise, any two float dtypes (the cast); may be in place when the dtypes agree.
  virtual void scale(Stream, Tensor y, Tensor x, float factor) const = 0;

  /// y_TD[t] = table_VD[id_T[t] - first_id] when that row is on this rank, else 0 (vocabulary-parallel partial sum).
  /// An id outside this rank's rows, negative ones included, adds nothing in backward.
  virtual void embedding_forward(Stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) const = 0;
  /// dtable_VD[id - first_id] += dy_TD[t] (f32), deterministic: tokens in ascending order.
  virtual void embedding_backward(Stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                                  Tensor scratch) const = 0;
  /// y_TD[t] += table_PD[(first_row + t) % context]: learned positions. Backward: dtable_PD[...] += dy_TD[t].
  virtual void position_forward(Stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) const = 0;
  virtual void position_backward(Stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) const = 0;

  /// Vocabulary-parallel softmax cross-entropy in three passes with a collective between each (Megatron-LM, arXiv
  /// 1909.08053, section 3). logits_TV hold the columns of token ids [first_id, first_id + valid); columns from `valid`
  /// on are padding and count as -inf.
  ///   1. max_T = row maxima over valid columns; -inf when valid is 0      (then all-reduce max over the tensor axis)
  ///   2. sum_T = sum exp(logit - max); target_T = logit - max of the target id, 0 when not on this rank  (all-reduce
  ///   sum)
  ///   3. loss_T = log(sum) - target (0 where target id < 0: ignored); when `gradient`, logits become softmax - onehot
  ///      (unscaled; 0 for ignored rows and padding columns)
  virtual void softmax_max(Stream, Tensor max_T, Tensor logits_TV, int64_t valid) const = 0;
  virtual void softmax_sum(Stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                           int64_t first_id, int64_t valid) const = 0;
  virtual void softmax_loss(Stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T,
                            Tensor id_T, int64_t first_id, int64_t valid, bool gradient) const = 0;
  /// How many rows to take through the three passes before the next ones, when nothing has to travel between the
  /// passes: as many as a cache holds, where that pays.
  virtual int64_t softmax_rows(Tensor logits_TV) const { return logits_TV.dim[0]; }

  virtual void adamw(Stream, const AdamWArgs&) const = 0;
  /// The sums that decide how a step is applied, and the decision: kernels/step_control.h.
  virtual void step_sums(Stream, const StepSumsArgs&) const = 0;
  virtual void step_control(Stream, const StepControlArgs&) const = 0;
  /// out_1 (f64[1]) = sum of squares of x, accumulated in double in an order that depends only on x's length.
  virtual void sum_squares(Stream, Tensor out_1, Tensor x, Tensor scratch) const = 0;
  /// out_1 (f64[1]) = sum of x in double, same order rule.
  virtual void sum(Stream, Tensor out_1, Tensor x, Tensor scratch) const = 0;

  /// Whether an activation is better made again in backward than kept from forward: where it is a pass of its own in
  /// either case, keeping it takes memory and saves next to no time.
  virtual bool remakes_activations() const { return false; }

  /// What runs calls of this shape, for the log: "cuDNN 9.19.0"; empty where there is no choice. Like scratch_bytes, it
  /// takes dry tensors.
  virtual std::string describe(const AttentionArgs&) const { return ""; }

  virtual size_t scratch_bytes(const GemmArgs&) const { return 0; }
  virtual size_t scratch_bytes(const NormBackwardArgs&) const { return 0; }
  virtual size_t scratch_bytes(const AttentionArgs&) const { return 0; }
  virtual size_t scratch_bytes(const AttentionBackwardArgs&) const { return 0; }
  /// Scratch of embedding_backward for T tokens into V rows.
  virtual size_t embedding_scratch_bytes(int64_t /*tokens*/, int64_t /*rows*/) const { return 0; }
  /// Scratch of bias_backward for dy_TN.
  virtual size_t bias_scratch_bytes(int64_t /*rows*/, int64_t /*columns*/) const { return 0; }
  /// Scratch of sum and sum_squares, whatever the length.
  virtual size_t sum_scratch_bytes() const { return 0; }
};

}  // namespace trident
