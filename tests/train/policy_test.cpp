#include "core/train/policy.h"

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

LrPolicy policy_of(LrShape shape) {
  return {.shape = shape, .lr = 0.5, .min_lr = 0.125, .warmup_steps = 4, .decay_steps = 12, .stable_fraction = 0.5};
}

std::string error_of(BadStepGuard& guard, const BadStep& step) {
  try {
    guard.bad(step);
  } catch (const RunError& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

// lr and the fractions are powers of two, so that every expected value below is exact in float.
TEST_CASE("warm-up is a line through zero that ends at the full rate", "[train]") {
  for (const LrShape shape : {LrShape::constant, LrShape::linear, LrShape::cosine, LrShape::wsd}) {
    const LrPolicy policy = policy_of(shape);
    CHECK(learning_rate(policy, 1) == 0.125f);
    CHECK(learning_rate(policy, 2) == 0.25f);
    CHECK(learning_rate(policy, 4) == 0.5f);
  }
}

TEST_CASE("the shapes after warm-up", "[train]") {
  CHECK(learning_rate(policy_of(LrShape::constant), 5) == 0.5f);
  CHECK(learning_rate(policy_of(LrShape::constant), 1000000) == 0.5f);

  CHECK(learning_rate(policy_of(LrShape::linear), 6) == 0.40625f);  // 0.5 - 0.375 * 2/8
  CHECK(learning_rate(policy_of(LrShape::linear), 8) == 0.3125f);
  CHECK(learning_rate(policy_of(LrShape::linear), 12) == 0.125f);

  CHECK(learning_rate(policy_of(LrShape::cosine), 8) == 0.3125f);  // half way: the mean
  // A quarter of the way, (1 + cos(pi/4)) / 2. Two roundings of double and one to float: within an ulp of float.
  const double quarter = 0.125 + 0.375 * (1 + std::sqrt(0.5)) / 2;
  CHECK(std::abs(learning_rate(policy_of(LrShape::cosine), 6) - quarter) <= 0x1p-24 * quarter * 1.0001);
  CHECK(learning_rate(policy_of(LrShape::cosine), 12) == 0.125f);

  CHECK(learning_rate(policy_of(LrShape::wsd), 8) == 0.5f);      // still stable
  CHECK(learning_rate(policy_of(LrShape::wsd), 10) == 0.3125f);  // half of the decay
  CHECK(learning_rate(policy_of(LrShape::wsd), 12) == 0.125f);
}

TEST_CASE("past the end every decaying shape stays at min_lr", "[train]") {
  for (const LrShape shape : {LrShape::linear, LrShape::cosine, LrShape::wsd}) {
    CHECK(learning_rate(policy_of(shape), 13) == 0.125f);
    CHECK(learning_rate(policy_of(shape), int64_t{1} << 60) == 0.125f);
  }
}

TEST_CASE("degenerate schedules", "[train]") {
  LrPolicy policy = policy_of(LrShape::cosine);
  policy.warmup_steps = 0;
  CHECK(learning_rate(policy, 6) == 0.3125f);  // no warm-up: half of 12
  policy.warmup_steps = 12;                    // all warm-up
  CHECK(learning_rate(policy, 12) == 0.5f);
  CHECK(learning_rate(policy, 13) == 0.125f);
  policy = policy_of(LrShape::wsd);
  policy.stable_fraction = 1;  // no decay but the last step
  CHECK(learning_rate(policy, 11) == 0.5f);
  CHECK(learning_rate(policy, 12) == 0.125f);
  policy.stable_fraction = 0;  // the same as linear
  for (int64_t step = 1; step < 15; ++step) {
    CHECK(learning_rate(policy, step) == learning_rate(policy_of(LrShape::linear), step));
  }
  REQUIRE_THROWS_AS(learning_rate(policy, 0), InternalError);
}

TEST_CASE("bad steps in a row end the run and name the culprit", "[train]") {
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(BadStepGuard::finite(2.0, 1.0));
  CHECK_FALSE(BadStepGuard::finite(std::nan(""), 1.0));
  CHECK_FALSE(BadStepGuard::finite(2.0, inf));

  BadStepGuard guard(3);
  const BadStep bad{12, std::nan(""), inf, "gradient of layers.3.attn.q.weight", "layer 3", 5};
  CHECK(error_of(guard, bad) == "");
  CHECK(error_of(guard, bad) == "");
  guard.good();  // the row is broken
  CHECK(guard.in_a_row() == 0);
  CHECK(error_of(guard, bad) == "");
  CHECK(error_of(guard, bad) == "");
  CHECK(guard.in_a_row() == 2);
  const std::string error = error_of(guard, bad);
  CHECK(contains(error, "3 steps in a row"));
  CHECK(contains(error, "step 12: loss nan, gradient norm inf"));
  CHECK(contains(error, "first bad tensor: gradient of layers.3.attn.q.weight (layer 3) on rank 5. "));
  CHECK(contains(error, "optimizer.lr"));

  BadStepGuard strict(1);
  CHECK(contains(error_of(strict, {7, inf, 1.0, "output", "head", 2, "sequence 3 of the batch, a: token 1"}),
                 "output (head) on rank 2, sequence 3 of the batch, a: token 1."));
  CHECK(contains(error_of(strict, {.step = 7, .loss = inf, .repeated = false}), "run again, the same step is finite"));
  REQUIRE_THROWS_AS(BadStepGuard(0), InternalError);
}
