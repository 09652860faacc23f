#include "core/model/linear.h"

namespace trident {

namespace {

// The two doors, on a stream of the caller's choice.
Tensor enter_on(Stream stream, Exec& ex, Tensor x_RD) {
  const int64_t tokens = ex.tokens();
  if (x_RD.dim[0] == tokens) return x_RD;
  Tensor x_TD = ex.scratch.alloc(x_RD.dtype, {tokens, x_RD.dim[1]});
  ex.tensor.all_gather(x_TD, x_RD, stream);
  return x_TD;
}

Tensor leave_on(Stream stream, Exec& ex, Tensor partial_TD, int64_t rows) {
  if (rows == partial_TD.dim[0]) {
    ex.tensor.all_reduce(partial_TD, Reduce::sum, stream);
    return partial_TD;
  }
  // In place: this rank's rows of the partial sums become the result.
  Tensor out_RD = partial_TD.rows(ex.tensor.rank() * rows, (ex.tensor.rank() + 1) * rows);
  ex.tensor.reduce_scatter(out_RD, partial_TD, Reduce::sum, stream);
  return out_RD;
}

template <class Door>
Beside beside_compute(Exec& ex, Door door) {
  const Stream stream = ex.device.stream(Role::tensor);
  ex.device.wait(stream, ex.device.record(ex.stream));
  const Tensor result = door(stream);
  return {result, ex.device.record(stream)};
}

}  // namespace

Tensor enter(Exec& ex, Tensor x_RD) { return enter_on(ex.stream, ex, x_RD); }

Tensor leave(Exec& ex, Tensor partial_TD, int64_t rows) { return leave_on(ex.stream, ex, partial_TD, rows); }

Beside enter_beside(Exec& ex, Tensor x_RD) {
  if (x_RD.dim[0] == ex.tokens()) return {x_RD, {}};
  return beside_compute(ex, [&](Stream stream) { return enter_on(stream, ex, x_RD); });
}

Beside leave_beside(Exec& ex, Tensor partial_TD, int64_t rows) {
  if (ex.tensor.size() == 1) return {partial_TD, {}};
  return beside_compute(ex, [&](Stream stream) { return leave_on(stream, ex, partial_TD, rows); });
}

Tensor join(Exec& ex, const Beside& collective) {
  ex.device.wait(ex.stream, collective.done);
  return collective.result;
}

Tensor fused_view(const std::vector<Tensor>& tensors, size_t first, size_t count) {
  Tensor view = tensors.at(first);
  for (size_t i = first + 1; i < first + count; ++i) {
    const Tensor& next = tensors.at(i);
    ensure(view.dry() || static_cast<char*>(view.data) + view.bytes() == next.data, "fused parameters are adjacent");
    view.dim[0] += next.dim[0];
  }
  return view;
}

void run_gemm(Exec& ex, GemmArgs args) {
  ScratchScope scope(ex.scratch);
  args.scratch = ex.scratch_for(ex.ops.scratch_bytes(args));
  ex.ops.gemm(ex.stream, args);
}

void Linear::forward(Exec& ex, const BlockParams& p, Tensor y_TN, Tensor x_TK) const {
  forward(ex, p, y_TN, x_TK, {}, {});
}

void Linear::forward(Exec& ex, const BlockParams& p, Tensor y_TN, Tensor x_TK, Tensor activated_TN,
                     ActivationKind activation) const {
  GemmArgs args{.c_MN = y_TN,
                .a = x_TK,
                .b = fused_view(p.value, weight, count),
                .transpose_b = true,
                .activated_MN = activated_TN,
                .activation = activation};
  if (has_bias && (!bias_on_first_rank || ex.tensor.rank() == 0)) args.bias_N = fused_view(p.value, bias, count);
  const trace::Product of(product);
  run_gemm(ex, args);
}

void Linear::backward_input(Exec& ex, const BlockParams& p, Tensor dx_TK, Tensor dy_TN) const {
  const trace::Product of(product);
  run_gemm(ex, {.c_MN = dx_TK, .a = dy_TN, .b = fused_view(p.value, weight, count)});
}

void Linear::backward_weight(Exec& ex, const BlockParams& p, Tensor dy_TN, Tensor x_TK) const {
  GemmArgs args{
      .c_MN = fused_view(p.grad, weight, count), .a = dy_TN, .b = x_TK, .transpose_a = true, .accumulate = true};
  if (has_bias) args.bias_grad_M = fused_view(p.grad, bias, count);
  const trace::Product of(product);
  run_gemm(ex, args);
}

Tensor Linear::backward(Exec& ex, const BlockParams& p, Tensor dx_TK, Tensor dy_TN, Tensor x_RK) const {
  const Beside gathered = enter_beside(ex, x_RK);
  backward_input(ex, p, dx_TK, dy_TN);
  const Tensor x_TK = join(ex, gathered);
  const Beside summed = leave_beside(ex, dx_TK, x_RK.dim[0]);
  backward_weight(ex, p, dy_TN, x_TK);
  return join(ex, summed);
}

Linear add_linear(std::vector<ParamSpec>& specs, const std::vector<LinearPart>& parts, int64_t inputs, Split split,
                  bool bias, float std, trace::Activity product) {
  Linear layer{.weight = specs.size(),
               .count = parts.size(),
               .has_bias = bias,
               .bias_on_first_rank = split == Split::cols,
               .product = product};
  for (const LinearPart& part : parts) {
    specs.push_back({.name = part.name + ".weight",
                     .shape = {part.outputs, inputs},
                     .split = split,
                     .init = {Init::Kind::normal, std},
                     .decay = true,
                     .fused = &part != &parts.front()});
  }
  if (bias) {
    layer.bias = specs.size();
    for (const LinearPart& part : parts) {
      specs.push_back({.name = part.name + ".bias",
                       .shape = {part.outputs},
                       .split = split == Split::rows ? Split::rows : Split::none,
                       .fused = &part != &parts.front()});
    }
  }
  return layer;
}

}  // namespace trident
