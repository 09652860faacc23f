// One transformer layer, pre-norm: x1 = x + dropout(attention(norm1(x))), y = x1 + dropout(mlp(norm2(x1))).
#pragma once

#include <vector>

#include "core/model/attention.h"
#include "core/model/mlp.h"
#include "core/model/norm.h"

namespace trident {

class Layer final : public Module {
 public:
  Layer(const ModelShape&, int64_t index);

  std::vector<ParamSpec> params() const override { return specs_; }
  Tensor forward(Exec&, const BlockParams&, Tensor x_RD, Saved&) const override;
  void backward(Exec&, const BlockParams&, Tensor dx_RD, Saved&) const override;

 private:
  std::vector<ParamSpec> specs_;  // first: the members below append to it
  ModelShape shape_;
  uint32_t attention_purpose_, mlp_purpose_;
  NormLayer norm1_;
  Attention attention_;
  NormLayer norm2_;
  Mlp mlp_;
};

/// The mask of a residual dropout: keyed by the global row, so that every grid drops the same elements. `rows`: of this
/// rank (under sequence parallelism tensor rank r holds rows [r * rows, (r + 1) * rows) of the micro-batch).
DropoutSpec residual_dropout(const Exec&, const ModelShape&, uint32_t purpose, int64_t rows);

}  // namespace trident
