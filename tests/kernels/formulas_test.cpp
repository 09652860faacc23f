// The scalar formulas' derivatives by complex step: Im f(x + ih) / h with h = 1e-100 has no cancellation, so the bounds
// are a few roundings of f64 times the terms' magnitudes.
#include "kernels/reference/formulas.h"

#include "cases.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::reference;
using cases::Random;
using cases::Values;
using Complex = std::complex<double>;

namespace {

constexpr double kTiny = 1e-100;
/// 32 roundings: no formula here has more operations between input and output of one term.
constexpr double kRoundings = 32 * dtype_epsilon(DType::f64);

template <class F>
double derivative(F f, double x) {
  return f(Complex(x, kTiny)).imag() / kTiny;
}

std::vector<Complex> complex_of(const Values& x) { return {x.begin(), x.end()}; }

}  // namespace

TEST_CASE("activation derivatives agree with the complex step") {
  for (const double x : Random(1).normal(DType::f64, 200, 3)) {
    CAPTURE(x);
    const double polynomial = 1 + std::abs(x) * (1 + 0.134 * x * x);
    CHECK(std::abs(gelu_tanh_derivative(x) - derivative(gelu_tanh<Complex>, x)) <= kRoundings * polynomial);
    CHECK(std::abs(silu_derivative(x) - derivative(silu<Complex>, x)) <= kRoundings * (1 + std::abs(x)));
    CHECK(relu_derivative(x) == derivative(relu<Complex>, x));
    const auto by_gate = [](const Complex& gate) { return swiglu(gate, Complex(1.7)); };
    CHECK(std::abs(1.7 * silu_derivative(x) - derivative(by_gate, x)) <= kRoundings * 1.7 * (1 + std::abs(x)));
    const auto by_up = [x](const Complex& up) { return swiglu(Complex(x), up); };
    CHECK(std::abs(silu(x) - derivative(by_up, 0.3)) <= kRoundings * std::abs(x));
  }
}

TEST_CASE("activations take known values") {
  CHECK(gelu_tanh(0.0) == 0.0);
  // 0.5 (1 + tanh(sqrt(2/pi) 1.044715)), and x / (1 + e^-x) at 1: closed forms worked out by hand to 1e-12.
  CHECK(std::abs(gelu_tanh(1.0) - 0.841191990608) <= 1e-11 * std::abs(0.841191990608));
  CHECK(std::abs(silu(1.0) - 0.731058578630) <= 1e-11 * std::abs(0.731058578630));
  CHECK(relu(-2.0) == 0.0);
  CHECK(relu(2.0) == 2.0);
}

TEST_CASE("norm_row_backward agrees with the complex step") {
  for (const bool centered : {true, false}) {
    Random random(2);
    const size_t n = 9;
    const Values x = random.normal(DType::f64, n, 2, 1), w = random.normal(DType::f64, n);
    const Values dy = random.normal(DType::f64, n);
    Values y(n), dx(n);
    const auto statistics = norm_row<double>(y, x, w, {}, 0.01, centered);
    norm_row_backward<double>(dx, dy, x, w, statistics, centered);
    for (size_t i = 0; i < n; ++i) {
      std::vector<Complex> xc = complex_of(x), yc(n);
      xc[i] += Complex(0, kTiny);
      norm_row<Complex>(yc, xc, complex_of(w), {}, 0.01, centered);
      double want = 0, magnitude = 0;
      for (size_t j = 0; j < n; ++j) {
        want += dy[j] * yc[j].imag() / kTiny;
        magnitude += std::abs(dy[j] * w[j]) * statistics.rstd * (1 + std::abs(y[j]));
      }
      CAPTURE(centered, i, dx[i], want);
      CHECK(std::abs(dx[i] - want) <= kRoundings * magnitude);
    }
  }
}

TEST_CASE("the gradient of cross_entropy_row is softmax minus one-hot") {
  const Values x = Random(3).normal(DType::f64, 11, 3);
  const double max = row_max<double>(x), sum = row_exp_sum<double>(x, max);
  for (size_t i = 0; i < x.size(); ++i) {
    std::vector<Complex> xc = complex_of(x);
    xc[i] += Complex(0, kTiny);
    const double want = cross_entropy_row<Complex>(xc, 4).imag() / kTiny;
    CHECK(std::abs(std::exp(x[i] - max) / sum - (i == 4 ? 1 : 0) - want) <= kRoundings * (1 + std::abs(x[i] - max)));
  }
}

TEST_CASE("row_max of an empty row is minus infinity") {
  CHECK(row_max<double>({}) == -std::numeric_limits<double>::infinity());
}
