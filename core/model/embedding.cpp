#include "core/model/embedding.h"

#include "core/model/layer.h"
#include "core/model/linear.h"

namespace trident {

ParamSpec token_table_spec(const ModelShape& shape) {
  return {.name = "embed.token.weight",
          .shape = {shape.vocab, shape.hidden},
          .split = Split::rows,
          .init = {Init::Kind::normal, shape.init_std},
          .decay = true};
}

Embedding::Embedding(const ModelShape& shape)
    : shape_(shape), specs_{token_table_spec(shape)}, dropout_purpose_(random_purpose("embed.dropout")) {
  if (shape.position == PositionKind::learned) {
    specs_.push_back({.name = "embed.position.weight",
                      .shape = {shape.max_positions, shape.hidden},
                      .sum_tensor = shape.sequence_parallel,
                      .init = {Init::Kind::normal, shape.init_std},
                      .decay = true});
  }
}

Tensor Embedding::forward(Exec& ex, const BlockParams& p, Tensor, Saved& saved) const {
  const int64_t tokens = ex.tokens(), rows = tokens / shape_.row_split();
  Tensor x_RD = saved.alloc(ex.dtype, {rows, shape_.hidden});
  const ScratchScope scope(ex.scratch);
  Tensor partial_TD = ex.scratch.alloc(ex.dtype, {tokens, shape_.hidden});
  ex.ops.embedding_forward(ex.stream, partial_TD, ex.micro.tokens_T, p.value.at(kToken),
                           ex.tensor.rank() * shape_.local_vocab());
  // Exactly one tensor rank contributes to a row, so this sum rounds nothing.
  Tensor sum_RD = leave(ex, partial_TD, rows);
  if (shape_.position == PositionKind::learned) {
    const int64_t first_row = rows == tokens ? 0 : ex.tensor.rank() * rows;
    ex.ops.position_forward(ex.stream, sum_RD, p.value.at(kPosition), first_row, shape_.context);
  }
  ex.ops.dropout_add(ex.stream, x_RD, Tensor{}, sum_RD, residual_dropout(ex, shape_, dropout_purpose_, rows));
  return x_RD;
}

void Embedding::backward(Exec& ex, const BlockParams& p, Tensor dx_RD, Saved&) const {
  const int64_t tokens = ex.tokens(), rows = dx_RD.dim[0];
  const DropoutSpec dropout = residual_dropout(ex, shape_, dropout_purpose_, rows);
  if (dropout.p > 0.0f) ex.ops.dropout_backward(ex.stream, dx_RD, dx_RD, dropout);
  if (shape_.position == PositionKind::learned) {
    const int64_t first_row = rows == tokens ? 0 : ex.tensor.rank() * rows;
    ex.ops.position_backward(ex.stream, p.grad.at(kPosition), dx_RD, first_row, shape_.context);
  }
  const ScratchScope scope(ex.scratch);
  Tensor dx_TD = enter(ex, dx_RD);
  const Tensor scratch = ex.scratch_for(ex.ops.embedding_scratch_bytes(tokens, shape_.local_vocab()));
  ex.ops.embedding_backward(ex.stream, p.grad.at(kToken), ex.micro.tokens_T, dx_TD,
                            ex.tensor.rank() * shape_.local_vocab(), scratch);
}

}  // namespace trident
