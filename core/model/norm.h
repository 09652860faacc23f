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

/// What a norm's backward, and making its output again, need.
struct NormState {
  Tensor x_RD, rstd_T, mean_T;
  Tensor y_RD;  ///< absent under selective recomputation
};

class NormLayer {
 public:
  /// Appends its specs (weight, and a bias for LayerNorm) under `name`.
  NormLayer(const ModelShape&, const std::string& name, std::vector<ParamSpec>& specs);

  /// y_RD = norm(x_RD). The statistics live in `saved`; nothing is pushed: push() does that, when its time has come.
  NormState forward(Exec&, const BlockParams&, Tensor y_RD, Tensor x_RD, Saved&) const;
  /// The same, after writing x_RD = stream + dropout(addend), in one pass.
  NormState forward(Exec&, const BlockParams&, Tensor y_RD, Tensor x_RD, const ResidualJoin&, Saved&) const;
  static void push(const Exec&, const NormState&, Saved&);
  static NormState pop(const Exec&, Saved&);
  /// y_RD as forward made it: kept, or made again in scratch.
  Tensor output(Exec&, const BlockParams&, const NormState&) const;
  /// dx = gradient through the norm + residual (when defined; it may be dx itself).
  void backward(Exec&, const BlockParams&, Tensor dx_RD, Tensor dy_RD, Tensor residual_RD, const NormState&) const;

 private:
  void run(Exec&, const BlockParams&, Tensor y_RD, const NormState&, const ResidualJoin&) const;

  NormKind kind_;
  float eps_;
  size_t weight_, bias_;
};

}  // namespace trident
