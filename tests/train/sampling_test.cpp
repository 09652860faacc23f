#include "core/train/sampling.h"

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int64_t> draw(const std::vector<float>& logits, const SamplingOptions& options, int64_t draws) {
  std::vector<int64_t> counts(logits.size(), 0);
  for (int64_t position = 0; position < draws; ++position) ++counts[sample_token(logits, options, 0, position)];
  return counts;
}

/// Each count is binomial: draws * p, standard deviation sqrt(draws p (1 - p)). Five of them are passed by chance once
/// in 1.7 million counts, and the numbers are fixed by the seed. A probability of zero has no deviation: exact.
void check_distribution(const std::vector<int64_t>& counts, const std::vector<double>& p, int64_t draws) {
  double worst = 0;
  size_t worst_token = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double n = static_cast<double>(draws);
    const double bound = 5 * std::sqrt(n * p[i] * (1 - p[i]));
    const double off = std::abs(static_cast<double>(counts[i]) - n * p[i]);
    if (off > bound && off - bound > worst) {
      worst = off - bound;
      worst_token = i;
    }
  }
  INFO("token " << worst_token << " was drawn " << counts[worst_token] << " times, expected "
                << p[worst_token] * static_cast<double>(draws));
  CHECK(worst == 0);
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (const float x : logits) {
    p.push_back(std::exp(static_cast<double>(x) / temperature));
    sum += p.back();
  }
  for (double& x : p) x /= sum;
  return p;
}

template <class Error>
std::string error_of(const std::vector<float>& logits, const SamplingOptions& options) {
  try {
    sample_token(logits, options, 0, 0);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

constexpr int64_t kDraws = 40000;

}  // namespace

TEST_CASE("temperature 0 is greedy, and the lower id wins a tie", "[train]") {
  const SamplingOptions options{.temperature = 0, .top_k = 2, .top_p = 0.5f};
  CHECK(sample_token(std::vector<float>{1, 3, 2}, options, 0, 0) == 1);
  CHECK(sample_token(std::vector<float>{1, 3, 3}, options, 0, 5) == 1);
  CHECK(sample_token(std::vector<float>{-kInfinity, -5}, options, 0, 0) == 1);
  CHECK(sample_token(std::vector<float>{7}, options, 0, 0) == 0);
  // top_k 1 is greedy too, at any temperature.
  for (int64_t position = 0; position < 50; ++position) {
    REQUIRE(sample_token(std::vector<float>{1, 3, 3, 2}, {.temperature = 9, .top_k = 1}, 0, position) == 1);
  }
}

TEST_CASE("tokens are drawn as often as the softmax says", "[train]") {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, -kInfinity};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    INFO("temperature " << temperature);
    check_distribution(draw(logits, {.temperature = temperature, .seed = 3}, kDraws), softmax(logits, temperature),
                       kDraws);
  }
}

TEST_CASE("the distribution check can fail", "[train]") {
  // Temperatures 1 and 1.1 must be told apart by the bound above, or it would prove nothing.
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f};
  const std::vector<int64_t> counts = draw(logits, {.temperature = 1.1f, .seed = 3}, kDraws);
  const double p = softmax(logits, 1.0)[3], n = static_cast<double>(kDraws);
  CHECK(std::abs(static_cast<double>(counts[3]) - n * p) > 5 * std::sqrt(n * p * (1 - p)));
}

TEST_CASE("top_k keeps the k most likely, lower ids at a tie", "[train]") {
  const std::vector<float> logits = {1.0f, 2.0f, 1.0f, 0.0f, 1.0f};
  const auto p = softmax({1.0f, 2.0f, 1.0f, -kInfinity, -kInfinity}, 1.0);
  check_distribution(draw(logits, {.top_k = 3, .seed = 5}, kDraws), p, kDraws);
  // 0 and anything from the vocabulary up are off: the very same draws.
  const std::vector<int64_t> all = draw(logits, {.seed = 5}, 1000);
  CHECK(draw(logits, {.top_k = 0, .seed = 5}, 1000) == all);
  CHECK(draw(logits, {.top_k = 5, .seed = 5}, 1000) == all);
  CHECK(draw(logits, {.top_k = 500, .seed = 5}, 1000) == all);
  for (const int64_t count : all) CHECK(count > 0);
}

TEST_CASE("top_p keeps the fewest that reach the sum", "[train]") {
  // Probabilities 1/2, 1/4, 1/8, 1/8, exactly: logits are multiples of ln 2 to float, sums are compared in between.
  const float ln2 = std::log(2.0f);
  const std::vector<float> logits = {-3 * ln2, -ln2, -3 * ln2, -2 * ln2};
  check_distribution(draw(logits, {.top_p = 0.6f, .seed = 7}, kDraws), {0, 2.0 / 3, 0, 1.0 / 3}, kDraws);
  check_distribution(draw(logits, {.top_p = 0.8f, .seed = 7}, kDraws), {1.0 / 7, 4.0 / 7, 0, 2.0 / 7}, kDraws);
  check_distribution(draw(logits, {.top_p = 0.99f, .seed = 7}, kDraws), {0.125, 0.5, 0.125, 0.25}, kDraws);
  check_distribution(draw(logits, {.top_p = 1e-6f, .seed = 7}, 1000), {0, 1, 0, 0}, 1000);
}

TEST_CASE("top_k is applied before top_p", "[train]") {
  // Of four equal tokens k keeps two; 0.5 of what is left is one. The other way round it would be two.
  check_distribution(draw({1, 1, 1, 1}, {.top_k = 2, .top_p = 0.5f}, 1000), {1, 0, 0, 0}, 1000);
}

TEST_CASE("the choice is a pure function of seed, sequence and position", "[train]") {
  const std::vector<float> logits(1000, 0.0f);
  const int64_t token = sample_token(logits, {.seed = 11}, 2, 40);
  CHECK(sample_token(logits, {.seed = 11}, 2, 40) == token);
  std::set<int64_t> others;
  others.insert(sample_token(logits, {.seed = 12}, 2, 40));
  others.insert(sample_token(logits, {.seed = 11}, 3, 40));
  others.insert(sample_token(logits, {.seed = 11}, 2, 41));
  CHECK(others.count(token) == 0);
  CHECK(others.size() == 3);
}

TEST_CASE("extreme but finite logits are no trouble", "[train]") {
  const float big = std::numeric_limits<float>::max();
  CHECK(sample_token(std::vector<float>{-big, big, -kInfinity}, {.temperature = 1e-30f}, 0, 0) == 1);
  std::set<int64_t> seen;
  for (int64_t position = 0; position < 64; ++position) {
    seen.insert(sample_token(std::vector<float>{big, -big, big}, {.temperature = 1e30f, .top_k = 3}, 0, position));
  }
  CHECK(seen == std::set<int64_t>{0, 2});
}

TEST_CASE("what cannot be sampled is refused by name", "[train]") {
  CHECK(contains(error_of<RunError>({0, std::nanf(""), 1}, {}), "the logit of token 1 is nan"));
  CHECK(contains(error_of<RunError>({0, 1, kInfinity}, {.temperature = 0}), "the logit of token 2 is inf"));
  CHECK(contains(error_of<RunError>({-kInfinity, -kInfinity}, {}), "every logit is -inf"));
  CHECK(contains(error_of<UserError>({0}, {.temperature = -1}), "temperature is -1"));
  CHECK(contains(error_of<UserError>({0}, {.temperature = kInfinity}), "temperature is inf"));
  CHECK(contains(error_of<UserError>({0}, {.temperature = std::nanf("")}), "temperature is nan"));
  CHECK(contains(error_of<UserError>({0}, {.top_k = -1}), "top-k is -1"));
  CHECK(contains(error_of<UserError>({0}, {.top_p = 0}), "top-p is 0"));
  CHECK(contains(error_of<UserError>({0}, {.top_p = 1.5f}), "up to 1"));
  REQUIRE_THROWS_AS(sample_token({}, {}, 0, 0), InternalError);
  REQUIRE_THROWS_AS(sample_token(std::vector<float>{0}, {}, 0, -1), InternalError);
}
