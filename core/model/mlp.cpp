#include "core/model/mlp.h"

#include <cmath>

namespace trident {
namespace {

bool remakes_activation(const Exec& ex) { return ex.redo_cheap || ex.ops.remakes_activations(); }

}  // namespace

Mlp::Mlp(const ModelShape& shape, const std::string& name, std::vector<ParamSpec>& specs) : shape_(shape) {
  const float down_std =
      shape.scale_residual_init ? shape.init_std / std::sqrt(2.0f * static_cast<float>(shape.layers)) : shape.init_std;
  std::vector<LinearPart> parts;
  if (is_gated(shape.activation)) parts.push_back({name + ".gate", shape.ffn});
  parts.push_back({name + ".up", shape.ffn});
  up_ = add_linear(specs, parts, shape.hidden, Split::rows, shape.bias, shape.init_std, trace::Activity::gemm_up);
  down_ = add_linear(specs, {{name + ".down", shape.hidden}}, shape.ffn, Split::cols, shape.bias, down_std,
                     trace::Activity::gemm_down);
}

Tensor Mlp::forward(Exec& ex, const BlockParams& p, Tensor h_RD, Saved& saved) const {
  const int64_t tokens = ex.tokens(), rows = h_RD.dim[0], ffn = shape_.ffn / shape_.tensor;
  Tensor up = saved.alloc(ex.dtype, {tokens, static_cast<int64_t>(up_.count) * ffn});
  const bool remake = remakes_activation(ex);
  Tensor act_TF = remake ? ex.scratch.alloc(ex.dtype, {tokens, ffn}) : saved.alloc(ex.dtype, {tokens, ffn});
  saved.push(up);
  if (!remake) saved.push(act_TF);

  // An activation that is made again is made as it will be then: of the rounded projection.
  if (is_gated(shape_.activation) || remake) {
    up_.forward(ex, p, up, enter(ex, h_RD));
    ex.ops.activation_forward(ex.stream, shape_.activation, act_TF, up);
  } else {
    up_.forward(ex, p, up, enter(ex, h_RD), act_TF, shape_.activation);
  }
  Tensor z_TD = ex.scratch.alloc(ex.dtype, {tokens, shape_.hidden});
  down_.forward(ex, p, z_TD, act_TF);
  return leave(ex, z_TD, rows);
}

Tensor Mlp::backward(Exec& ex, const BlockParams& p, Tensor dz_RD, Tensor h_RD, Saved& saved) const {
  const int64_t tokens = ex.tokens(), ffn = shape_.ffn / shape_.tensor;
  Tensor act_TF = remakes_activation(ex) ? Tensor{} : saved.pop();
  const Tensor up = saved.pop();

  Tensor dh_TD = ex.scratch.alloc(ex.dtype, {tokens, shape_.hidden});
  const ScratchScope scope(ex.scratch);
  Tensor dact_TF = ex.scratch.alloc(ex.dtype, {tokens, ffn});
  {
    const ScratchScope inner(ex.scratch);
    if (!act_TF.defined()) {
      act_TF = ex.scratch.alloc(ex.dtype, {tokens, ffn});
      ex.ops.activation_forward(ex.stream, shape_.activation, act_TF, up);
    }
    Tensor dz_TD = enter(ex, dz_RD);
    down_.backward_weight(ex, p, dz_TD, act_TF);
    down_.backward_input(ex, p, dact_TF, dz_TD);
  }
  // The up projection is not needed any more: its memory takes its gradient.
  Tensor dup = up;
  ex.ops.activation_backward(ex.stream, shape_.activation, dup, dact_TF, up);
  return up_.backward(ex, p, dh_TD, dup, h_RD);
}

}  // namespace trident
