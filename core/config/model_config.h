// The model section of the config: sizes and the options that tell one transformer from another.
#pragma once

#include <cstdint>

#include "core/base/fields.h"
#include "core/config/enums.h"

namespace trident {

struct AttentionConfig {
  AttentionKind kind = AttentionKind::dense;

  bool operator==(const AttentionConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.kind, {.name = "kind",
                      .effect = "Which earlier tokens a token attends to: all of them (dense), or a sparse pattern."});
  }
};

/// After resolve (core/config/preset.h) no field is 0 for "derive it".
struct ModelConfig {
  Arch arch = Arch::gpt2;
  int64_t layers = 12;
  int64_t hidden = 768;
  int64_t heads = 12;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t ffn_hidden = 0;
  int64_t vocab = 50257;
  int64_t context = 1024;
  int64_t max_positions = 0;
  Norm norm = Norm::layer_norm;
  double norm_eps = 1e-5;
  Activation activation = Activation::gelu;
  Position position = Position::learned;
  double rope_theta = 10000.0;
  bool bias = true;
  bool tie_embeddings = true;
  double dropout = 0.0;
  double init_std = 0.02;
  AttentionConfig attention;

  bool operator==(const ModelConfig&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(self.arch, {.name = "arch",
                      .effect = "The family. It presets every model key that is not set: gpt2 is layer_norm, gelu, "
                                "learned positions, bias and tied embeddings; llama is rms_norm, swiglu, rope, no "
                                "bias and an untied head."});
    visit(self.layers, {.name = "layers", .range = between(1, 1 << 14), .effect = "Transformer layers."});
    visit(self.hidden, {.name = "hidden",
                        .unit = "elements",
                        .range = between(1, 1 << 16),
                        .effect = "Width of the residual stream."});
    visit(
        self.heads,
        {.name = "heads", .range = between(1, 65536), .effect = "Query heads. Must be a multiple of parallel.tensor."});
    visit(self.kv_heads, {.name = "kv_heads",
                          .range = between(1, 65536),
                          .zero_is_auto = true,
                          .derived = "heads",
                          .effect = "Key and value heads. Fewer than heads is grouped-query attention: heads must be a "
                                    "multiple of it, and it of parallel.tensor."});
    visit(self.head_dim, {.name = "head_dim",
                          .unit = "elements",
                          .range = between(1, 65536),
                          .zero_is_auto = true,
                          .derived = "hidden / heads",
                          .effect = "Width of one head."});
    visit(self.ffn_hidden, {.name = "ffn_hidden",
                            .unit = "elements",
                            .range = between(1, 1 << 20),
                            .zero_is_auto = true,
                            .derived = "4 x hidden; with swiglu 8/3 x hidden, rounded up to a multiple of 64",
                            .effect = "Width inside the feed-forward block. Must be a multiple of parallel.tensor."});
    visit(self.vocab, {.name = "vocab",
                       .unit = "tokens",
                       .range = between(2, 1 << 24),
                       .effect = "Vocabulary of the model. It may exceed the tokenizer's and need not divide by "
                                 "parallel.tensor: padding is internal and masked."});
    visit(self.context, {.name = "context",
                         .unit = "tokens",
                         .range = between(1, 1 << 22),
                         .effect = "Length of a training sequence."});
    visit(self.max_positions, {.name = "max_positions",
                               .unit = "tokens",
                               .range = between(1, 1 << 22),
                               .zero_is_auto = true,
                               .derived = "context",
                               .effect = "Rows of the learned position table; may exceed context (a pretrained model "
                                         "trained on shorter sequences)."});
    visit(self.norm, {.name = "norm", .derived = "from arch", .effect = "Normalisation before each block."});
    visit(self.norm_eps, {.name = "norm_eps",
                          .range = above(0),
                          .derived = "1e-5",
                          .effect = "Added to the variance (mean square) inside the norm."});
    visit(self.activation, {.name = "activation",
                            .derived = "from arch",
                            .effect = "Feed-forward nonlinearity. gelu is the tanh form; swiglu adds a gate matrix."});
    visit(self.position, {.name = "position", .derived = "from arch", .effect = "How tokens know their position."});
    visit(self.rope_theta, {.name = "rope_theta",
                            .range = above(1),
                            .effect = "Base of the rotary frequencies. Only with position: rope."});
    visit(self.bias,
          {.name = "bias", .derived = "from arch", .effect = "Bias vectors in the linear layers, and in layer_norm."});
    visit(self.tie_embeddings, {.name = "tie_embeddings",
                                .derived = "from arch",
                                .effect = "The output head is the token embedding, one tensor."});
    visit(self.dropout, {.name = "dropout",
                         .range = from_up_to(0, 1),
                         .effect = "Probability of dropping an element after the embedding, in the attention "
                                   "probabilities and after each block. GPT-2 was trained with 0.1; 0 is the default "
                                   "for every arch, as usual for one pass over the data."});
    visit(self.init_std, {.name = "init_std",
                          .range = above(0),
                          .effect = "Standard deviation of the initial weights; projections into the residual stream "
                                    "are divided by sqrt(2 x layers)."});
    visit(self.attention, {.name = "attention", .effect = "The attention pattern."});
  }
};

}  // namespace trident
