#include "core/model/layer.h"

namespace trident {
namespace {

std::string layer_name(int64_t index) { return build_string("layers.", index); }

}  // namespace

DropoutSpec residual_dropout(const Exec& ex, const ModelShape& shape, uint32_t purpose, int64_t rows) {
  const int64_t offset = rows == ex.tokens() ? 0 : ex.tensor.rank() * rows;
  return {.p = ex.training() ? shape.dropout : 0.0f,
          .key = {ex.seed, static_cast<uint32_t>(ex.step), purpose},
          .first_row = ex.micro.first_sequence * shape.context + offset};
}

Layer::Layer(const ModelShape& shape, int64_t index)
    : shape_(shape),
      attention_purpose_(random_purpose(layer_name(index) + ".attn.residual")),
      mlp_purpose_(random_purpose(layer_name(index) + ".mlp.residual")),
      norm1_(shape, layer_name(index) + ".norm1", specs_),
      attention_(shape, layer_name(index) + ".attn", specs_),
      norm2_(shape, layer_name(index) + ".norm2", specs_),
      mlp_(shape, layer_name(index) + ".mlp", specs_) {}

Tensor Layer::forward(Exec& ex, const BlockParams& p, Tensor x_RD, Saved& saved) const {
  const int64_t rows = x_RD.dim[0];
  Tensor x1_RD = saved.alloc(ex.dtype, {rows, shape_.hidden}), y_RD = saved.alloc(ex.dtype, {rows, shape_.hidden});
  const ScratchScope whole(ex.scratch);
  const auto norm_output = [&] {
    return ex.redo_cheap ? ex.scratch.alloc(ex.dtype, {rows, shape_.hidden})
                         : saved.alloc(ex.dtype, {rows, shape_.hidden});
  };
  const Tensor h2_RD = norm_output();
  NormState norm2;
  {
    const ScratchScope scope(ex.scratch);
    const NormState norm1 = norm1_.forward(ex, p, norm_output(), x_RD, saved);
    Tensor z_RD = attention_.forward(ex, p, norm1.y_RD, saved);
    NormLayer::push(ex, norm1, saved);
    const ResidualJoin join{x_RD, z_RD, residual_dropout(ex, shape_, attention_purpose_, rows)};
    norm2 = norm2_.forward(ex, p, h2_RD, x1_RD, join, saved);
  }
  {
    const ScratchScope scope(ex.scratch);
    Tensor z_RD = mlp_.forward(ex, p, h2_RD, saved);
    NormLayer::push(ex, norm2, saved);
    ex.ops.dropout_add(ex.stream, y_RD, x1_RD, z_RD, residual_dropout(ex, shape_, mlp_purpose_, rows));
  }
  return y_RD;
}

void Layer::backward(Exec& ex, const BlockParams& p, Tensor dx_RD, Saved& saved) const {
  const int64_t rows = dx_RD.dim[0];
  // The gradient of the residual stream stays in dx; each half adds its own part in the norm's backward.
  const auto through_dropout = [&](uint32_t purpose) {
    const DropoutSpec spec = residual_dropout(ex, shape_, purpose, rows);
    if (spec.p == 0.0f) return dx_RD;
    Tensor dz_RD = ex.scratch.alloc(ex.dtype, {rows, shape_.hidden});
    ex.ops.dropout_backward(ex.stream, dz_RD, dx_RD, spec);
    return dz_RD;
  };
  {
    const ScratchScope scope(ex.scratch);
    const NormState norm2 = NormLayer::pop(ex, saved);
    Tensor h_RD = norm2_.output(ex, p, norm2);
    Tensor dh_RD = mlp_.backward(ex, p, through_dropout(mlp_purpose_), h_RD, saved);
    norm2_.backward(ex, p, dx_RD, dh_RD, dx_RD, norm2);
  }
  {
    const ScratchScope scope(ex.scratch);
    const NormState norm1 = NormLayer::pop(ex, saved);
    Tensor h_RD = norm1_.output(ex, p, norm1);
    Tensor dh_RD = attention_.backward(ex, p, through_dropout(attention_purpose_), h_RD, saved);
    norm1_.backward(ex, p, dx_RD, dh_RD, dx_RD, norm1);
  }
}

}  // namespace trident
