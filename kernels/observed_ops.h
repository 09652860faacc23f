// A table that tells of every call it passes on to another: which operation, and how much work it is.
//
// The work is the least that the call can be done with. Model operations: of products only, 2 m n k for a gemm, and for
// attention those of the scores that the mask keeps (4 per head element and kept score forward, 10 backward). Bytes:
// every tensor that is read or written counts once for each, scratch and what a cache holds (bias, norm weights) not.
#pragma once

#include <memory>
#include <string_view>

#include "core/base/trace.h"
#include "kernels/ops.h"

namespace trident {

/// The operations of Ops, in its order.
enum class Op : uint8_t {
  gemm,
  norm_forward,
  norm_backward,
  rope,
  attention_forward,
  attention_backward,
  activation_forward,
  activation_backward,
  dropout_add,
  dropout_backward,
  bias_backward,
  bias_add,
  add,
  scale,
  embedding_forward,
  embedding_backward,
  position_forward,
  position_backward,
  softmax_max,
  softmax_sum,
  softmax_loss,
  adamw,
  step_sums,
  step_control,
  sum_squares,
  sum,
};
inline constexpr int kOps = static_cast<int>(Op::sum) + 1;

/// Its name in Ops.
std::string_view op_name(Op);

struct OpCall {
  Op op;
  trace::Work work;
};

class OpObserver {
 public:
  virtual ~OpObserver() = default;
  virtual void begin(const OpCall&) = 0;
  /// After the call has returned or thrown: calls do not nest. On a GPU it has been submitted by then, no more.
  virtual void end() = 0;
};

/// Calls the observer, which outlives the table, around every operation of `real`, in the calling thread.
std::unique_ptr<Ops> make_observed_ops(std::unique_ptr<Ops> real, OpObserver&);

}  // namespace trident
