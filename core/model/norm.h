// LayerNorm or RMSNorm over the rows of the residual stream.
#pragma once

#include <string>
#include <vector>

#include "core/model/module.h"

namespace trident {

/// What joins the residual stream on its way into a norm: x = stream + dropout(addend).
struct ResidualJoin {
  Tensor stream_RD, addend_RD;
  DropoutSpec drop;
};

class NormLayer {
 public:
  /// Appends its specs (weight, and a bias for LayerNorm) under `name`.
  NormLayer(const ModelShape&, const std::string& name, std::vector<ParamSpec>& specs);

  /// Pushes x and the statistics; returns y_RD, which lives in `saved`.
  Tensor forward(Exec&, const BlockParams&, Tensor x_RD, Saved&) const;
  /// The same, after writing x_RD = stream + dropout(addend), in one pass.
  Tensor forward(Exec&, const BlockParams&, Tensor x_RD, const ResidualJoin&, Saved&) const;
  /// dx = gradient through the norm + residual (when defined; it may be dx itself).
  void backward(Exec&, const BlockParams&, Tensor dx_RD, Tensor dy_RD, Tensor residual_RD, Saved&) const;

 private:
  NormKind kind_;
  float eps_;
  size_t weight_, bias_;
};

}  // namespace trident
