#include "core/model/attention.h"

#include <cmath>

namespace trident {

AttentionArgs attention_args(const ModelShape& shape, Tensor qkv, float dropout) {
  return {.qkv = qkv,
          .context = shape.context,
          .heads = shape.local_heads(),
          .kv_heads = shape.local_kv_heads(),
          .head_size = shape.head_size,
          .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_size)),
          .dropout = dropout,
          .heads_total = shape.heads};
}

Attention::Attention(const ModelShape& shape, const std::string& name, std::vector<ParamSpec>& specs)
    : shape_(shape), dropout_purpose_(random_purpose(name + ".dropout")) {
  const int64_t q = shape.heads * shape.head_size, kv = shape.kv_heads * shape.head_size;
  const float out_std =
      shape.scale_residual_init ? shape.init_std / std::sqrt(2.0f * static_cast<float>(shape.layers)) : shape.init_std;
  qkv_ = add_linear(specs, {{name + ".q", q}, {name + ".k", kv}, {name + ".v", kv}}, shape.hidden, Split::rows,
                    shape.bias, shape.init_std, trace::Activity::gemm_qkv);
  out_ = add_linear(specs, {{name + ".out", shape.hidden}}, q, Split::cols, shape.bias, out_std,
                    trace::Activity::gemm_out);
}

AttentionArgs Attention::core_args(const Exec& ex, Tensor qkv, Tensor out, Tensor lse) const {
  AttentionArgs args = attention_args(shape_, qkv, ex.training() ? shape_.dropout : 0.0f);
  args.out = out;
  args.lse = lse;
  args.dropout_key = {ex.seed, static_cast<uint32_t>(ex.step), dropout_purpose_};
  args.first_sequence = ex.micro.first_sequence;
  args.first_head = ex.tensor.rank() * shape_.local_heads();
  return args;
}

RopeArgs Attention::rope_args(Tensor qkv, bool inverse) const {
  return {.qkv = qkv,
          .context = shape_.context,
          .heads = shape_.local_heads() + shape_.local_kv_heads(),
          .head_size = shape_.head_size,
          .theta = shape_.rope_theta,
          .inverse = inverse};
}

Tensor Attention::forward(Exec& ex, const BlockParams& p, Tensor h_RD, Saved& saved) const {
  const int64_t tokens = ex.tokens(), rows = h_RD.dim[0];
  Tensor qkv = saved.alloc(ex.dtype, {tokens, shape_.local_qkv()});
  Tensor out = saved.alloc(ex.dtype, {tokens, shape_.local_heads() * shape_.head_size});
  Tensor lse = saved.alloc(ex.wide(), {tokens / shape_.context, shape_.local_heads(), shape_.context});
  saved.push(qkv);
  saved.push(out);
  saved.push(lse);

  qkv_.forward(ex, p, qkv, enter(ex, h_RD));
  if (shape_.position == PositionKind::rope) ex.ops.rope(ex.stream, rope_args(qkv, false));
  AttentionArgs args = core_args(ex, qkv, out, lse);
  args.scratch = ex.scratch_for(ex.ops.scratch_bytes(args));
  ex.ops.attention_forward(ex.stream, args);

  Tensor z_TD = ex.scratch.alloc(ex.dtype, {tokens, shape_.hidden});
  out_.forward(ex, p, z_TD, out);
  return leave(ex, z_TD, rows);
}

Tensor Attention::backward(Exec& ex, const BlockParams& p, Tensor dz_RD, Tensor h_RD, Saved& saved) const {
  const int64_t tokens = ex.tokens();
  const Tensor lse = saved.pop(), out = saved.pop(), qkv = saved.pop();

  Tensor dh_TD = ex.scratch.alloc(ex.dtype, {tokens, shape_.hidden});
  const ScratchScope scope(ex.scratch);
  Tensor dqkv = ex.scratch.alloc(ex.dtype, {tokens, shape_.local_qkv()});
  {
    const ScratchScope inner(ex.scratch);
    Tensor dout = ex.scratch.alloc(ex.dtype, {tokens, out.dim[1]});
    Tensor dz_TD = enter(ex, dz_RD);
    out_.backward_weight(ex, p, dz_TD, out);
    out_.backward_input(ex, p, dout, dz_TD);
    AttentionBackwardArgs args{.forward = core_args(ex, qkv, out, lse), .dqkv = dqkv, .dout = dout, .scratch = {}};
    args.scratch = ex.scratch_for(ex.ops.scratch_bytes(args));
    ex.ops.attention_backward(ex.stream, args);
  }
  if (shape_.position == PositionKind::rope) ex.ops.rope(ex.stream, rope_args(dqkv, true));
  return qkv_.backward(ex, p, dh_TD, dqkv, h_RD);
}

}  // namespace trident
