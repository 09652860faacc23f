#include "core/train/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"

namespace trident {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The most likely token, lowest id first. Checks every logit on the way.
int64_t greedy(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]) || logits[i] == kInfinity) {
      throw RunError(build_string("the logit of token ", i, " is ", logits[i],
                                  "; the model has diverged: take an earlier checkpoint"));
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (logits[best] == -kInfinity) throw RunError("every logit is -inf; no token may come next");
  return static_cast<int64_t>(best);
}

/// The candidates after top_k, most likely first where the order matters (top_k or top_p is on), else by id.
std::vector<int64_t> candidates(std::span<const float> logits, const SamplingOptions& options) {
  std::vector<int64_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), int64_t{0});
  const bool cut = options.top_k > 0 && options.top_k < static_cast<int64_t>(ids.size());
  if (!cut && options.top_p >= 1) return ids;
  const auto end = cut ? ids.begin() + options.top_k : ids.end();
  std::partial_sort(ids.begin(), end, ids.end(),
                    [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  ids.erase(end, ids.end());
  return ids;
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0) || options.temperature == kInfinity) {
    throw UserError(build_string("temperature is ", options.temperature, "; it must be 0 (greedy) or more"));
  }
  if (options.top_k < 0) throw UserError(build_string("top-k is ", options.top_k, "; it must be 0 (off) or more"));
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw UserError(build_string("top-p is ", options.top_p, "; it must lie above 0 and up to 1 (off)"));
  }
}

int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint32_t sequence,
                     int64_t position) {
  check_sampling(options);
  ensure(!logits.empty() && position >= 0, "a token is chosen from at least one logit, at a position");
  const int64_t best = greedy(logits);
  if (options.temperature == 0) return best;

  const std::vector<int64_t> ids = candidates(logits, options);
  std::vector<double> sums(ids.size());  // running sums of the unnormalised probabilities
  double sum = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const double above = static_cast<double>(logits[ids[i]]) - static_cast<double>(logits[best]);
    sum += std::exp(above / static_cast<double>(options.temperature));
    sums[i] = sum;
  }
  if (options.top_p < 1) {  // up to and with the first whose sum reaches the share
    sum = *std::lower_bound(sums.begin(), sums.end() - 1, static_cast<double>(options.top_p) * sum);
  }
  const uint32_t word =
      random_u32({options.seed, sequence, random_purpose("generate")}, static_cast<uint64_t>(position));
  const double drawn = static_cast<double>(word) * 0x1p-32 * sum;  // in [0, sum)
  return ids[static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), drawn) - sums.begin())];
}

}  // namespace trident
