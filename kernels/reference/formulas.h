// The scalar and row formulas behind the reference table, templated on the number type: double computes, and
// std::complex<double> differentiates. For an analytic f, f'(x) = Im f(x + ih) / h with h = 1e-100 has no cancellation
// (the complex-step method of Squire and Trapp, SIAM Review 40(1), 1998), so tests prove each backward to the last
// bits.
//
// Legend: D row length, V vocabulary columns. Rows are spans of one length.
#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>

namespace trident::reference {

inline double real_part(double x) { return x; }
inline double real_part(const std::complex<double>& x) { return x.real(); }

/// GELU in its tanh form (Hendrycks and Gimpel, arXiv 1606.08415): x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
template <class T>
T gelu_tanh(const T& x) {
  const double c = std::sqrt(2.0 / std::numbers::pi);
  return 0.5 * x * (1.0 + std::tanh(c * (x + 0.044715 * x * x * x)));
}
template <class T>
T gelu_tanh_derivative(const T& x) {
  const double c = std::sqrt(2.0 / std::numbers::pi);
  const T t = std::tanh(c * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3 * 0.044715 * x * x);
}

template <class T>
T sigmoid(const T& x) {
  return 1.0 / (1.0 + std::exp(-x));
}
/// SiLU: x sigmoid(x).
template <class T>
T silu(const T& x) {
  return x * sigmoid(x);
}
template <class T>
T silu_derivative(const T& x) {
  const T s = sigmoid(x);
  return s + x * s * (1.0 - s);
}

/// SwiGLU (Shazeer, arXiv 2002.05202): silu(gate) * up.
template <class T>
T swiglu(const T& gate, const T& up) {
  return silu(gate) * up;
}

/// ReLU; at 0 the derivative is 0.
template <class T>
T relu(const T& x) {
  return real_part(x) > 0 ? x : T(0);
}
template <class T>
T relu_derivative(const T& x) {
  return T(real_part(x) > 0 ? 1 : 0);
}

/// What a norm row keeps for its backward.
template <class T>
struct NormStatistics {
  T mean{};  ///< 0 for RMSNorm
  T rstd{};
};

/// y = (x - mean) rstd w + b with the row's own statistics; `centered` false is RMSNorm. b may be empty.
template <class T>
NormStatistics<T> norm_row(std::span<T> y_D, std::span<const T> x_D, std::span<const T> w_D, std::span<const T> b_D,
                           double eps, bool centered) {
  const double n = static_cast<double>(x_D.size());
  NormStatistics<T> s;
  if (centered) {
    for (const T& x : x_D) s.mean += x;
    s.mean /= n;
  }
  T square{};
  for (const T& x : x_D) square += (x - s.mean) * (x - s.mean);
  s.rstd = 1.0 / std::sqrt(square / n + eps);
  for (size_t i = 0; i < x_D.size(); ++i) {
    y_D[i] = (x_D[i] - s.mean) * s.rstd * w_D[i];
    if (!b_D.empty()) y_D[i] += b_D[i];
  }
  return s;
}

/// dx of one norm row, from dy and the forward's statistics (dx is overwritten, and may not be dy).
template <class T>
void norm_row_backward(std::span<T> dx_D, std::span<const T> dy_D, std::span<const T> x_D, std::span<const T> w_D,
                       const NormStatistics<T>& s, bool centered) {
  const double n = static_cast<double>(x_D.size());
  T mean_g{}, mean_gx{};
  for (size_t i = 0; i < x_D.size(); ++i) {
    const T g = dy_D[i] * w_D[i];
    mean_g += g / n;
    mean_gx += g * (x_D[i] - s.mean) * s.rstd / n;
  }
  if (!centered) mean_g = T(0);
  for (size_t i = 0; i < x_D.size(); ++i) {
    dx_D[i] = s.rstd * (dy_D[i] * w_D[i] - mean_g - (x_D[i] - s.mean) * s.rstd * mean_gx);
  }
}

/// The largest real part of a row; -infinity for an empty one.
template <class T>
double row_max(std::span<const T> x_V) {
  double best = -std::numeric_limits<double>::infinity();
  for (const T& x : x_V) best = std::max(best, real_part(x));
  return best;
}

/// Sum of exp(x - max).
template <class T>
T row_exp_sum(std::span<const T> x_V, double max) {
  T sum{};
  for (const T& x : x_V) sum += std::exp(x - max);
  return sum;
}

/// Cross-entropy of one row of logits against `target`: log(sum exp x) - x[target].
template <class T>
T cross_entropy_row(std::span<const T> x_V, size_t target) {
  const double max = row_max(x_V);
  return std::log(row_exp_sum(x_V, max)) + max - x_V[target];
}

/// Turns the pair (a, b) by `angle`: (a cos - b sin, a sin + b cos).
template <class T>
void rotate_pair(T& a, T& b, double angle) {
  const T a0 = a, b0 = b;
  a = a0 * std::cos(angle) - b0 * std::sin(angle);
  b = a0 * std::sin(angle) + b0 * std::cos(angle);
}

/// The angle of pair i at `position` (Su et al., arXiv 2104.09864): position * theta^(-2i/K).
inline double rope_angle(int64_t position, int64_t i, int64_t head_size, double theta) {
  return static_cast<double>(position) *
         std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
}

/// One AdamW step in double: hyper-parameters, and what bias correction makes of the step's number.
struct AdamWStep {
  double lr, beta1, beta2, eps, weight_decay;
  double step_size;                 ///< lr / (1 - beta1^t)
  double inverse_sqrt_correction2;  ///< 1 / sqrt(1 - beta2^t)
};
/// Fills in the corrections of step t, from 1.
inline AdamWStep corrected(AdamWStep h, double t) {
  h.step_size = h.lr / (1.0 - std::pow(h.beta1, t));
  h.inverse_sqrt_correction2 = 1.0 / std::sqrt(1.0 - std::pow(h.beta2, t));
  return h;
}

/// One element of AdamW: decoupled decay first, then bias-corrected moments.
template <class T>
void adamw_update(T& master, T& m, T& v, const T& g, const AdamWStep& h) {
  m = h.beta1 * m + (1.0 - h.beta1) * g;
  v = h.beta2 * v + (1.0 - h.beta2) * g * g;
  master = master * (1.0 - h.lr * h.weight_decay);
  master -= h.step_size * m / (std::sqrt(v) * h.inverse_sqrt_correction2 + h.eps);
}

}  // namespace trident::reference
