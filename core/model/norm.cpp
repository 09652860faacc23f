#include "core/model/norm.h"

namespace trident {

NormLayer::NormLayer(const ModelShape& shape, const std::string& name, std::vector<ParamSpec>& specs)
    : kind_(shape.norm), eps_(shape.norm_eps), weight_(specs.size()), bias_(specs.size() + 1) {
  // Under sequence parallelism every tensor rank sees its own rows only: their gradients are partial sums.
  specs.push_back({.name = name + ".weight",
                   .shape = {shape.hidden},
                   .sum_tensor = shape.sequence_parallel,
                   .init = {Init::Kind::one, 0}});
  if (kind_ == NormKind::layer_norm) {
    specs.push_back(
        {.name = name + ".bias", .shape = {shape.hidden}, .sum_tensor = shape.sequence_parallel, .init = {}});
  }
}

Tensor NormLayer::forward(Exec& ex, const BlockParams& p, Tensor x_RD, Saved& saved) const {
  return forward(ex, p, x_RD, ResidualJoin{}, saved);
}

Tensor NormLayer::forward(Exec& ex, const BlockParams& p, Tensor x_RD, const ResidualJoin& join, Saved& saved) const {
  const int64_t rows = x_RD.dim[0];
  NormArgs args{.kind = kind_, .eps = eps_, .x_TD = x_RD, .w_D = p.value.at(weight_)};
  args.y_TD = saved.alloc(ex.dtype, {rows, x_RD.dim[1]});
  args.rstd_T = saved.alloc(ex.wide(), {rows});
  if (kind_ == NormKind::layer_norm) {
    args.mean_T = saved.alloc(ex.wide(), {rows});
    args.b_D = p.value.at(bias_);
  }
  args.stream_TD = join.stream_RD;
  args.addend_TD = join.addend_RD;
  args.drop = join.drop;
  ex.ops.norm_forward(ex.stream, args);
  saved.push(x_RD);
  saved.push(args.rstd_T);
  saved.push(args.mean_T);
  return args.y_TD;
}

void NormLayer::backward(Exec& ex, const BlockParams& p, Tensor dx_RD, Tensor dy_RD, Tensor residual_RD,
                         Saved& saved) const {
  NormBackwardArgs args{.forward = {.kind = kind_, .eps = eps_, .w_D = p.value.at(weight_)}};
  args.forward.mean_T = saved.pop();
  args.forward.rstd_T = saved.pop();
  args.forward.x_TD = saved.pop();
  args.dx_TD = dx_RD;
  args.dy_TD = dy_RD;
  args.residual_TD = residual_RD;
  args.dw_D = p.grad.at(weight_);
  if (kind_ == NormKind::layer_norm) args.db_D = p.grad.at(bias_);
  const ScratchScope scope(ex.scratch);
  args.scratch = ex.scratch_for(ex.ops.scratch_bytes(args));
  ex.ops.norm_backward(ex.stream, args);
}

}  // namespace trident
