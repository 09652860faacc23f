// The feed-forward half of a layer: down(gelu(up(x))) or down(silu(gate(x)) * up(x)); column- then row-parallel.
//
// Legend: T tokens, R rows outside tensor-parallel regions, D hidden, F local ffn width.
#pragma once

#include <string>
#include <vector>

#include "core/model/linear.h"
#include "core/model/module.h"

namespace trident {

class Mlp {
 public:
  Mlp(const ModelShape&, const std::string& name, std::vector<ParamSpec>& specs);

  /// h_RD -> z_RD in scratch. Pushes the up projection and, unless backward makes it again, the activation.
  Tensor forward(Exec&, const BlockParams&, Tensor h_RD, Saved&) const;
  /// dz_RD -> dh_RD in scratch; h as forward had it.
  Tensor backward(Exec&, const BlockParams&, Tensor dz_RD, Tensor h_RD, Saved&) const;

 private:
  ModelShape shape_;
  Linear up_, down_;
};

}  // namespace trident
