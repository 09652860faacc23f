// How much arithmetic a token of training needs. Pure arithmetic on sizes.
#pragma once

#include <cstdint>

namespace trident {

/// The sizes that decide the cost of a transformer; the names are the config's.
struct FlopShape {
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn_hidden = 0, vocab = 0, context = 0;
  bool gated = false;  ///< swiglu: a third matrix in the feed-forward block
};

/// Elements of all matrices a token is multiplied by: q, k, v, out and the feed-forward block of every layer, and the
/// head (also when it is tied). The embedding look-up multiplies nothing; biases and norms are left out.
double matmul_parameters(const FlopShape&);

/// Floating-point operations of forward and backward for one token: 6 * matmul_parameters + 6 * layers * context * A,
/// with A = heads * head_dim.
///
/// A multiply-add is two operations, and backward does twice the products of forward (one for the input's gradient, one
/// for the weight's): 2 + 4 = 6 per matrix element (Kaplan et al., arXiv 2001.08361, section 2.1). Attention multiplies
/// query by key and probability by value: 2 * 2 * A operations per pair of tokens forward, three times that with
/// backward. A token sees itself and what precedes it, context / 2 on average: 12 A * context / 2 (Chowdhery et al.,
/// arXiv 2204.02311, appendix B count all pairs, which is twice as much; masked work is not done, so we do not count
/// it). What recomputation does again is not counted: this is the model's arithmetic, from which MFU is made.
double flops_per_token(const FlopShape&);

/// What train.recompute: full adds to that: forward of all layers once more, without the head.
double recompute_flops_per_token(const FlopShape&);

/// Share of the peak: flops_per_token * tokens_per_s / (peak of one rank * ranks). NaN (unknown) unless the peak is >
/// 0.
double model_flops_utilization(double flops_per_token, double tokens_per_s, double peak_flops, int64_t ranks);

}  // namespace trident
