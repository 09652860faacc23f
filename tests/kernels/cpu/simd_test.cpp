// The vector building blocks of the CPU table: exp and sigmoid against libm, 16-bit rounding and dropout against their
// scalar definitions.
#include "kernels/cpu/simd.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/random.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cpu;

TEST_CASE("exp errs by less than 2 ulp") {
  double worst = 0;
  float worst_x = 0;
  for (int i = 0; i <= 400'000; ++i) {
    const float x = static_cast<float>(-87.3 + 176.0 * i / 400'000);
    const double want = std::exp(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23);
    const double error = std::abs(static_cast<double>(cpu::exp(broadcast(x))[0]) - want) / ulp;
    if (!(error <= worst)) {
      worst = error;
      worst_x = x;
    }
  }
  INFO("worst " << worst << " ulp at x = " << worst_x);
  CHECK(worst < 2);
}

TEST_CASE("exp at the ends and beyond") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(cpu::exp(broadcast(0.0f))[0] == 1.0f);
  CHECK(cpu::exp(broadcast(-inf))[0] == 0.0f);
  CHECK(cpu::exp(broadcast(-1e30f))[0] == 0.0f);
  CHECK(cpu::exp(broadcast(-88.0f))[0] == 0.0f);
  CHECK(cpu::exp(broadcast(89.0f))[0] == inf);
  CHECK(cpu::exp(broadcast(inf))[0] == inf);
  CHECK(std::isnan(cpu::exp(broadcast(std::nanf("")))[0]));
}

TEST_CASE("terms of a softmax and sigmoids err by roundings in proportion to their exponent") {
  double worst_term = 0, worst_sigmoid = 0;
  for (int i = -20'000; i <= 20'000; ++i) {
    const float x = static_cast<float>(i) * 4e-3f;
    const double e = std::exp(static_cast<double>(x)), s = 1 / (1 + std::exp(-static_cast<double>(x)));
    const double unit = dtype_epsilon(DType::f32), far = static_cast<double>(std::abs(x));
    const double term_error = std::abs(static_cast<double>(exp_term(broadcast(x))[0]) / e - 1);
    const double sigmoid_error = std::abs(static_cast<double>(sigmoid(broadcast(x))[0]) / s - 1);
    worst_term = std::max(worst_term, term_error / (unit * (4 + 2 * far)));
    worst_sigmoid = std::max(worst_sigmoid, sigmoid_error / (unit * (4 + (x < 0 ? 2 * far : 0))));
  }
  INFO("worst errors, of what is allowed: " << worst_term << " and " << worst_sigmoid);
  CHECK(worst_term < 1);
  CHECK(worst_sigmoid < 1);
}

TEST_CASE("terms of a softmax and sigmoids at the ends and beyond") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(exp_term(broadcast(0.0f))[0] == 1.0f);
  for (const float x : {-88.0f, -1e30f, -inf}) CHECK(exp_term(broadcast(x))[0] == 0.0f);
  for (const float x : {89.0f, 1e30f, inf}) CHECK(exp_term(broadcast(x))[0] == inf);
  CHECK(std::isnan(exp_term(broadcast(std::nanf("")))[0]));
  for (const float x : {200.0f, inf}) CHECK(sigmoid(broadcast(x))[0] == 1.0f);
  for (const float x : {-200.0f, -inf}) CHECK(sigmoid(broadcast(x))[0] == 0.0f);
  CHECK(std::isnan(sigmoid(broadcast(std::nanf("")))[0]));
}

TEST_CASE("vectors of 16-bit floats load and store as the scalars do") {
  // Ties, both directions, overflow, NaN, zeros.
  const std::vector<float> interesting = {
      1.0f,     1.00390625f, 1.01171875f, -1.00390625f,  3.4e38f,
      65519.0f, 65520.0f,    1e-8f,       -0.0f,         0.0f,
      0.333f,   -2.7e-5f,    6e-8f,       std::nanf(""), std::numeric_limits<float>::infinity(),
      123456.0f};
  for (size_t i = 0; i < interesting.size(); ++i) {
    const float x = interesting[i];
    bf16 b[kLanes];
    f16 h[kLanes];
    store(b, broadcast(x));
    store(h, broadcast(x));
    INFO("x = " << x);
    CHECK(b[kLanes - 1].bits == bf16(x).bits);
    CHECK((load(h)[kLanes - 1] == static_cast<float>(f16(x)) || std::isnan(x)));
    CHECK((load(b)[0] == static_cast<float>(bf16(x)) || std::isnan(x)));
  }
}

TEST_CASE("what lies below the normal numbers becomes a bf16 neighbour or a zero of its sign, in parts as in wholes") {
  for (const float x : {1e-39f, -1e-39f, 1.1e-38f}) {
    bf16 whole[kLanes], part[kLanes];
    store(whole, broadcast(x));
    store(part, broadcast(x), Part{kLanes - 1});
    INFO("x = " << x);
    CHECK(part[0].bits == whole[0].bits);
    CHECK((whole[0].bits == bf16(x).bits || whole[0].bits == bf16(std::copysign(0.0f, x)).bits));
  }
}

TEST_CASE("a partial step touches its elements only") {
  std::vector<float> memory(2 * kLanes, 7.0f);
  store(memory.data(), broadcast(1.0f), Part{kLanes - 1});
  for (int i = 0; i < 2 * kLanes; ++i) CHECK(memory[static_cast<size_t>(i)] == (i < kLanes - 1 ? 1.0f : 7.0f));
  const VecF v = load(memory.data(), Part{1});
  CHECK(v[0] == 1.0f);
  CHECK(v[kLanes - 1] == 0.0f);
  CHECK(fill_tail(v, -3.0f, Part{1})[1] == -3.0f);
}

TEST_CASE("dropout factors are those of the scalar generator, from any word on") {
  const RandomKey key{0x123456789abcdefu, 17, 99};
  const uint64_t far = (uint64_t{1} << 34) - 2;  // the block number passes 32 bits inside the run
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{1021}, far, far - 38}) {
    std::vector<float> factor(203);
    dropout_factors(key, first, 203, 0.3f, factor.data());
    int dropped = 0;
    for (uint64_t i = 0; i < 203; ++i) {
      const bool keep = uniform01(random_u32(key, first + i)) >= 0.3f;
      REQUIRE(factor[i] == (keep ? 1.0f / (1.0f - 0.3f) : 0.0f));
      dropped += !keep;
    }
    CHECK(dropped > 20);
    CHECK(dropped < 120);
  }
}
