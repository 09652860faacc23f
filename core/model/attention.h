// Causal self-attention with grouped key/value heads; column-parallel q|k|v, row-parallel output projection
// (Shoeybi et al., Megatron-LM, arXiv 1909.08053, section 3).
//
// Legend: T tokens, R rows outside tensor-parallel regions, D hidden, H local query heads, G local kv heads, K head
// size.
#pragma once

#include <string>
#include <vector>

#include "core/model/linear.h"
#include "core/model/module.h"

namespace trident {

/// The shape and scalars of the attention of `qkv` (which may be dry); no outputs, no dropout's key.
AttentionArgs attention_args(const ModelShape&, Tensor qkv, float dropout);

class Attention {
 public:
  Attention(const ModelShape&, const std::string& name, std::vector<ParamSpec>& specs);

  /// h_RD -> z_RD in scratch. Pushes qkv, the attention output and its log-sum-exp.
  Tensor forward(Exec&, const BlockParams&, Tensor h_RD, Saved&) const;
  /// dz_RD -> dh_RD in scratch; h as forward had it.
  Tensor backward(Exec&, const BlockParams&, Tensor dz_RD, Tensor h_RD, Saved&) const;

 private:
  AttentionArgs core_args(const Exec&, Tensor qkv, Tensor out, Tensor lse) const;
  RopeArgs rope_args(Tensor qkv, bool inverse) const;

  ModelShape shape_;
  uint32_t dropout_purpose_;
  Linear qkv_, out_;
};

}  // namespace trident
