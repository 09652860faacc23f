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

NormState NormLayer::forward(Exec& ex, const BlockParams& p, Tensor y_RD, Tensor x_RD, Saved& saved) const {
  return forward(ex, p, y_RD, x_RD, ResidualJoin{}, saved);
}

NormState NormLayer::forward(Exec& ex, const BlockParams& p, Tensor y_RD, Tensor x_RD, const ResidualJoin& join,
                             Saved& saved) const {
  const int64_t rows = x_RD.dim[0];
  NormState state{.x_RD = x_RD, .rstd_T = saved.alloc(ex.wide(), {rows}), .mean_T = {}, .y_RD = y_RD};
  if (kind_ == NormKind::layer_norm) state.mean_T = saved.alloc(ex.wide(), {rows});
  run(ex, p, y_RD, state, join);
  return state;
}

void NormLayer::run(Exec& ex, const BlockParams& p, Tensor y_RD, const NormState& state,
                    const ResidualJoin& join) const {
  NormArgs args{.kind = kind_,
                .eps = eps_,
                .y_TD = y_RD,
                .mean_T = state.mean_T,
                .rstd_T = state.rstd_T,
                .x_TD = state.x_RD,
                .w_D = p.value.at(weight_)};
  if (kind_ == NormKind::layer_norm) args.b_D = p.value.at(bias_);
  args.stream_TD = join.stream_RD;
  args.addend_TD = join.addend_RD;
  args.drop = join.drop;
  ex.ops.norm_forward(ex.stream, args);
}

void NormLayer::push(const Exec& ex, const NormState& state, Saved& saved) {
  saved.push(state.x_RD);
  saved.push(state.rstd_T);
  saved.push(state.mean_T);
  if (!ex.redo_cheap) saved.push(state.y_RD);
}

NormState NormLayer::pop(const Exec& ex, Saved& saved) {
  NormState state;
  if (!ex.redo_cheap) state.y_RD = saved.pop();
  state.mean_T = saved.pop();
  state.rstd_T = saved.pop();
  state.x_RD = saved.pop();
  return state;
}

Tensor NormLayer::output(Exec& ex, const BlockParams& p, const NormState& state) const {
  if (state.y_RD.defined()) return state.y_RD;
  Tensor y_RD = ex.scratch.alloc(ex.dtype, {state.x_RD.dim[0], state.x_RD.dim[1]});
  run(ex, p, y_RD, state, ResidualJoin{});  // x holds the sum that joined; the statistics get the bits they have
  return y_RD;
}

void NormLayer::backward(Exec& ex, const BlockParams& p, Tensor dx_RD, Tensor dy_RD, Tensor residual_RD,
                         const NormState& state) const {
  NormBackwardArgs args{.forward = {.kind = kind_, .eps = eps_, .w_D = p.value.at(weight_)}};
  args.forward.mean_T = state.mean_T;
  args.forward.rstd_T = state.rstd_T;
  args.forward.x_TD = state.x_RD;
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
