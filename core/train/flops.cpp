#include "core/train/flops.h"

#include <limits>

namespace trident {

double matmul_parameters(const FlopShape& s) {
  const auto d = static_cast<double>(s.hidden), k = static_cast<double>(s.head_dim);
  const auto h = static_cast<double>(s.heads), g = static_cast<double>(s.kv_heads),
             f = static_cast<double>(s.ffn_hidden);
  const double attention = d * (h + 2 * g) * k + h * k * d;
  const double feed_forward = (s.gated ? 3 : 2) * d * f;
  return static_cast<double>(s.layers) * (attention + feed_forward) + static_cast<double>(s.vocab) * d;
}

double flops_per_token(const FlopShape& s) {
  const double width = static_cast<double>(s.heads) * static_cast<double>(s.head_dim);
  return 6 * matmul_parameters(s) + 6 * static_cast<double>(s.layers) * static_cast<double>(s.context) * width;
}

double recompute_flops_per_token(const FlopShape& s) {
  const double head = 6 * static_cast<double>(s.vocab) * static_cast<double>(s.hidden);
  return (flops_per_token(s) - head) / 3;
}

double model_flops_utilization(double flops_per_token, double tokens_per_s, double peak_flops, int64_t ranks) {
  if (!(peak_flops > 0)) return std::numeric_limits<double>::quiet_NaN();
  return flops_per_token * tokens_per_s / (peak_flops * static_cast<double>(ranks));
}

}  // namespace trident
