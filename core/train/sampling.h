// Which token comes next, from logits. A pure function: the same logits, options, sequence and position give the same
// token on every grid and in every order.
#pragma once

#include <cstdint>
#include <span>

namespace trident {

/// How freely to choose. Applied in this order: temperature, then top_k, then top_p of what is left.
struct SamplingOptions {
  float temperature = 1.0f;  ///< logits are divided by it; 0 is greedy
  int64_t top_k = 0;         ///< only the k most likely tokens; 0 = all
  float top_p = 1.0f;        ///< only the fewest most likely tokens whose probabilities reach this sum; 1 = all
  uint64_t seed = 0;
};

/// Throws UserError, naming the option and its range, unless temperature >= 0 and finite, top_k >= 0, 0 < top_p <= 1.
void check_sampling(const SamplingOptions&);

/// The id chosen from logits[vocab] (f32, on the host; -inf forbids a token). `sequence` numbers the texts that are
/// generated side by side, `position` the place of the new token in its text: the random number is
/// Philox(seed, step = sequence, purpose "generate", index = position).
/// Of equally likely tokens the lower id comes first: it wins when greedy, and at the edge of top_k and top_p.
/// Probabilities are summed in double. Throws RunError when a logit is NaN or +inf, or when all are -inf.
int64_t sample_token(std::span<const float> logits, const SamplingOptions&, uint32_t sequence, int64_t position);

}  // namespace trident
