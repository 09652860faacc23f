// Linear layers and the two doors of a tensor-parallel region. Every collective of the model is one of `enter` and
// `leave` (or in the embedding and the head); each is the other's conjugate.
//
// Legend: T tokens, R rows outside tensor-parallel regions, N outputs, K inputs (local).
#pragma once

#include <string>
#include <vector>

#include "core/base/trace.h"
#include "core/model/module.h"

namespace trident {

/// Into a tensor-parallel region: all rows on every tensor rank. Identity without sequence parallelism, all-gather of
/// rows with it (Korthikanti et al., arXiv 2205.05198, g). The result lives in scratch, or is `x_RD` itself.
Tensor enter(Exec&, Tensor x_RD);

/// Out of it: sums the partial results of the tensor ranks. All-reduce in place without sequence parallelism,
/// reduce-scatter to this rank's rows (into `out_RD`) with it. Returns the tensor that holds the result.
Tensor leave(Exec&, Tensor partial_TD, int64_t rows);

/// A collective that runs beside the compute stream (on Role::tensor), behind what compute had been given so far. What
/// it reads and writes lives, and is not written, until `join`.
struct Beside {
  Tensor result;
  Event done;
};
Beside enter_beside(Exec&, Tensor x_RD);
Beside leave_beside(Exec&, Tensor partial_TD, int64_t rows);
/// Later work of the compute stream comes after the collective; returns what it made.
Tensor join(Exec&, const Beside&);

/// y_TN = x_TK w_NK^T + b_N over `count` parameters fused along N (q|k|v), by their indices in the block.
struct Linear {
  size_t weight = 0;  ///< index of the first weight in BlockParams
  size_t bias = 0;    ///< index of the first bias, if any
  size_t count = 1;
  bool has_bias = false;
  /// The bias belongs to one of the tensor ranks only, since their results are summed (row-parallel layers).
  bool bias_on_first_rank = false;
  trace::Activity product = trace::Activity::gemm_other;  ///< what a profile calls its products

  void forward(Exec&, const BlockParams&, Tensor y_TN, Tensor x_TK) const;
  /// The same, and activated_TN = activation(y_TN), not a gated one.
  void forward(Exec&, const BlockParams&, Tensor y_TN, Tensor x_TK, Tensor activated_TN, ActivationKind) const;
  /// dx_TK = dy_TN w_NK.
  void backward_input(Exec&, const BlockParams&, Tensor dx_TK, Tensor dy_TN) const;
  /// dw_NK += dy^T x, db_N += column sums of dy.
  void backward_weight(Exec&, const BlockParams&, Tensor dy_TN, Tensor x_TK) const;
  /// Both, of a column-parallel layer, with the doors around it: x_RK is what entered, the result, in dx_TK, what
  /// leaves. The gather of x runs beside the first product, the sum of dx beside the second.
  Tensor backward(Exec&, const BlockParams&, Tensor dx_TK, Tensor dy_TN, Tensor x_RK) const;
};

/// One of the tensors that a Linear fuses.
struct LinearPart {
  std::string name;  ///< without ".weight"
  int64_t outputs = 0;
};

/// Appends the specs of weights and biases to `specs` and returns the layer that uses them. `split` is of the weights:
/// rows (column-parallel) or cols (row-parallel, whose bias is a copy on every rank).
Linear add_linear(std::vector<ParamSpec>& specs, const std::vector<LinearPart>& parts, int64_t inputs, Split split,
                  bool bias, float std, trace::Activity product);

/// `count` adjacent parameters from `first`, seen as one tensor. Throws InternalError when they are not adjacent.
Tensor fused_view(const std::vector<Tensor>& tensors, size_t first, size_t count);

/// ops.gemm with scratch taken from the arena.
void run_gemm(Exec&, GemmArgs);

}  // namespace trident
