// Block L + 1: final norm, vocabulary-parallel output projection and softmax cross-entropy.
//
// The logits of the batch never exist at once: tokens go through in chunks, and a chunk's gradient is taken while its
// logits are still there, in forward. That is possible because loss and gradients are plain sums over tokens; the
// division by the global token count happens once, in the optimizer. Backward is then only the norm's.
//
// Legend: T tokens, N tokens of a chunk, B of its tokens, R rows outside tensor-parallel regions, D hidden, V local
// vocabulary rows.
#pragma once

#include <vector>

#include "core/model/norm.h"

namespace trident {

class Head final : public Module {
 public:
  explicit Head(const ModelShape&);

  std::vector<ParamSpec> params() const override { return specs_; }
  Tensor forward(Exec&, const BlockParams&, Tensor x_RD, Saved&) const override;
  void backward(Exec&, const BlockParams&, Tensor dx_RD, Saved&) const override;

 private:
  void loss_of_chunk(Exec&, const BlockParams&, Tensor h_ND, Tensor target_N, Tensor dh_ND, Tensor loss_1) const;
  /// The softmax's three passes: the losses of some of a chunk's rows, and in training their gradient in logits_BV.
  void loss_of_rows(Exec&, Tensor logits_BV, Tensor target_B, Tensor loss_B) const;
  void logits_of_rows(Exec&, const BlockParams&, Tensor h_TD) const;

  std::vector<ParamSpec> specs_;  // first: the members below append to it
  ModelShape shape_;
  NormLayer norm_;
  size_t weight_;
};

/// Tokens per chunk: equal chunks, as few as keep a chunk's logits within 128 MiB, of at least 16 tokens each.
int64_t head_chunk_tokens(const ModelShape&, DType, int64_t tokens);
/// Number of chunks of a micro-batch, that is of MicroBatch::loss_N.
int64_t head_chunks(const ModelShape&, DType, int64_t tokens);

}  // namespace trident
