#include "core/base/rng.h"

#include <cmath>
#include <numbers>

namespace trident {

float random_normal(const RandomKey& key, uint64_t index) {
  const std::array<uint32_t, 4> w = philox(key, index / 2);
  const size_t at = 2 * (index % 2);
  // (0, 1]: the logarithm never sees zero.
  const double u = (static_cast<double>(w[at]) + 1.0) * 0x1p-32;
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(w[at + 1]) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
}

}  // namespace trident
