// An owned f64 tensor and the central difference that proves backward operations, for tests of the reference table.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {

/// Owns its numbers; usable wherever an operation takes a Tensor.
struct F64 {
  Values values;
  std::vector<int64_t> shape;

  explicit F64(std::vector<int64_t> dims, Values numbers = {}) : values(std::move(numbers)), shape(std::move(dims)) {
    size_t n = 1;
    for (const int64_t d : shape) n *= static_cast<size_t>(d);
    if (values.empty()) values.assign(n, 0.0);
    ensure(values.size() == n, "as many numbers as the shape holds");
  }
  operator Tensor() { return {values.data(), DType::f64, shape}; }
  double& operator[](size_t i) { return values[i]; }
  size_t size() const { return values.size(); }
};

/// sum weights * y, and the sum of magnitudes that bounds its rounding.
struct Weighted {
  double value = 0, magnitude = 0;
};

inline Weighted weighted_sum(const Values& weights, const Values& y) {
  Weighted sum;
  for (size_t i = 0; i < y.size(); ++i) {
    sum.value += weights[i] * y[i];
    sum.magnitude += std::abs(weights[i] * y[i]);
  }
  return sum;
}

/// Compares `gradient` with central differences of f by each element of x. With D(h) = (f(x+h) - f(x-h)) / 2h, the
/// truncation of D(h) is a third of |D(2h) - D(h)| to leading order (four times that is granted), and the rounding of
/// f, a sum of `magnitude`, is granted 64 eps(f64) magnitude / h. Returns the worst element beyond that, or "".
inline std::string gradient_error(const std::string& name, Values& x, const Values& gradient,
                                  const std::function<Weighted()>& f) {
  constexpr double kStep = 0x1p-13;
  const auto difference = [&](size_t i, double h) {
    const double x0 = x[i];
    x[i] = x0 + h;
    const double above = f().value;
    x[i] = x0 - h;
    const double below = f().value;
    x[i] = x0;
    return (above - below) / (2 * h);
  };
  const double rounding = 64 * dtype_epsilon(DType::f64) * f().magnitude / kStep;
  double worst = 0;
  std::string line;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = difference(i, kStep);
    const double tolerance = 4.0 / 3.0 * std::abs(difference(i, 2 * kStep) - want) + rounding;
    const double error = std::abs(gradient[i] - want);
    if (error <= tolerance || error <= worst) continue;
    worst = error;
    line = build_string(name, "[", i, "]: got ", gradient[i], ", difference ", want, ", tolerance ", tolerance);
  }
  return line;
}

}  // namespace trident::cases
