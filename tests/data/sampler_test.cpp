#include "core/data/sampler.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

// Every number of [0, n) is hit exactly once.
bool is_bijection(uint64_t n, uint64_t key) {
  const Permutation permutation(n, key);
  std::vector<bool> seen(n, false);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t to = permutation(i);
    if (to >= n || seen[to]) return false;
    seen[to] = true;
  }
  return true;
}

}  // namespace

TEST_CASE("the permutation is a bijection for every small size and key") {
  for (uint64_t n = 1; n <= 300; ++n) {
    for (uint64_t key = 0; key < 4; ++key) {
      INFO("size " << n << ", key " << key);
      CHECK(is_bijection(n, key));
    }
  }
}

TEST_CASE("the permutation is a bijection around powers of two and primes") {
  for (const uint64_t n : {511, 512, 513, 1023, 1024, 1025, 4099, 32768, 65535, 65536, 65537, 99991, 131073}) {
    INFO("size " << n);
    CHECK(is_bijection(n, 0x9e3779b97f4a7c15));
  }
}

TEST_CASE("huge sizes stay inside and do not collide") {
  for (const uint64_t n : {(uint64_t{1} << 40) + 1, uint64_t{1} << 63}) {
    const Permutation permutation(n, 5);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) seen.insert(permutation(n - 1 - i));
    CHECK(seen.size() == 1000);
    CHECK(*seen.rbegin() < n);
  }
}

TEST_CASE("the order looks random: fixed points and neighbours are as rare as chance makes them") {
  constexpr uint64_t kSize = 5000;
  int fixed = 0, neighbours = 0;
  for (uint64_t key = 0; key < 20; ++key) {
    const Permutation permutation(kSize, key);
    for (uint64_t i = 0; i + 1 < kSize; ++i) {
      fixed += permutation(i) == i;
      neighbours += permutation(i) + 1 == permutation(i + 1);
    }
  }
  // Each count is Poisson with mean 20 (one a permutation); 20 + 6 sqrt(20) is passed by chance once in 10^7.
  INFO("fixed points " << fixed << ", neighbours " << neighbours);
  CHECK(fixed < 47);
  CHECK(neighbours < 47);
}

TEST_CASE("small permutations take every value equally often over the keys") {
  constexpr uint64_t kSize = 6;
  constexpr int kKeys = 6000;
  std::vector<int> count(kSize * kSize, 0);
  for (uint64_t key = 0; key < kKeys; ++key) {
    const Permutation permutation(kSize, key);
    for (uint64_t i = 0; i < kSize; ++i) ++count[i * kSize + permutation(i)];
  }
  // Binomial(6000, 1/6): mean 1000, standard deviation 28.9; five of them for 36 cells.
  const auto [low, high] = std::minmax_element(count.begin(), count.end());
  INFO("lowest " << *low << ", highest " << *high);
  CHECK(*low > 1000 - 145);
  CHECK(*high < 1000 + 145);
}

TEST_CASE("samples of a stream: the last token is only a target") {
  CHECK(SampleOrder::count(0, 4) == 0);
  CHECK(SampleOrder::count(4, 4) == 0);
  CHECK(SampleOrder::count(5, 4) == 1);
  CHECK(SampleOrder::count(8, 4) == 1);
  CHECK(SampleOrder::count(9, 4) == 2);
}

TEST_CASE("each epoch visits every sample once, in an order of its own") {
  constexpr int64_t kContext = 8, kSamples = 103;
  const SampleOrder order(kSamples * kContext + 1, kContext, 7, 99);
  REQUIRE(order.samples() == kSamples);
  std::vector<std::vector<int64_t>> epochs;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<int64_t> visited;
    for (int64_t i = 0; i < kSamples; ++i) visited.push_back(order.first_token(epoch * kSamples + i));
    epochs.push_back(visited);
    std::sort(visited.begin(), visited.end());
    for (int64_t i = 0; i < kSamples; ++i) CHECK(visited[static_cast<size_t>(i)] == i * kContext);
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
  CHECK(epochs[2] != epochs[3]);
}

TEST_CASE("seed and fingerprint each change the order; equal ones repeat it") {
  const auto walk = [](uint64_t seed, uint64_t fingerprint) {
    const SampleOrder order(10'001, 10, seed, fingerprint);
    std::vector<int64_t> first;
    for (int64_t i = 0; i < 50; ++i) first.push_back(order.first_token(i));
    return first;
  };
  CHECK(walk(1, 2) == walk(1, 2));
  CHECK(walk(1, 2) != walk(3, 2));
  CHECK(walk(1, 2) != walk(1, 3));
}

TEST_CASE("the order is a contract: recorded values do not move between versions") {
  const SampleOrder order(1001 * 64, 64, 1234, 42);
  std::vector<int64_t> first;
  for (int64_t i = 0; i < 6; ++i) first.push_back(order.first_token(i) / 64);
  CHECK(first == std::vector<int64_t>{467, 337, 982, 488, 477, 684});
}

TEST_CASE("impossible requests are our own mistake") {
  CHECK_THROWS_AS(Permutation(0, 1), InternalError);
  CHECK_THROWS_AS(Permutation(5, 1)(5), InternalError);
  CHECK_THROWS_AS(SampleOrder(4, 4, 1, 1), InternalError);
  CHECK_THROWS_AS(SampleOrder(10, 0, 1, 1), InternalError);
  CHECK_THROWS_AS(SampleOrder(10, 4, 1, 1).first_token(-1), InternalError);
}
