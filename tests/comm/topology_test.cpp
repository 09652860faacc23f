#include "core/comm/topology.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {
constexpr Axis kAxes[] = {Axis::tensor, Axis::context, Axis::data, Axis::pipeline};
}

TEST_CASE("tensor varies fastest, pipeline slowest", "[ranks=1]") {
  const Topology t{.tensor = 2, .context = 3, .data = 5, .pipeline = 7};
  CHECK(t.ranks() == 210);
  CHECK(t.coordinates(1) == Coordinates{1, 0, 0, 0});
  CHECK(t.coordinates(2) == Coordinates{0, 1, 0, 0});
  CHECK(t.coordinates(6) == Coordinates{0, 0, 1, 0});
  CHECK(t.coordinates(30) == Coordinates{0, 0, 0, 1});
  CHECK(t.coordinates(209) == Coordinates{1, 2, 4, 6});
  for (int rank = 0; rank < t.ranks(); ++rank) REQUIRE(t.rank(t.coordinates(rank)) == rank);
}

TEST_CASE("the groups of an axis partition the ranks, in order of position", "[ranks=1]") {
  const Topology t{.tensor = 4, .context = 2, .data = 3, .pipeline = 2};
  for (const Axis axis : kAxes) {
    INFO(axis_name(axis));
    std::set<std::vector<int>> groups;
    for (int rank = 0; rank < t.ranks(); ++rank) {
      const std::vector<int> group = t.group(rank, axis);
      REQUIRE(group.size() == static_cast<size_t>(t.size(axis)));
      REQUIRE(group[t.position(rank, axis)] == rank);
      REQUIRE(std::is_sorted(group.begin(), group.end()));
      groups.insert(group);
    }
    CHECK(groups.size() * t.size(axis) == static_cast<size_t>(t.ranks()));
  }
  CHECK(t.group(5, Axis::tensor) == std::vector<int>{4, 5, 6, 7});
  CHECK(t.group(5, Axis::pipeline) == std::vector<int>{5, 29});
}

TEST_CASE("shard groups are runs of data ranks, replicas lie across them", "[ranks=1]") {
  Topology t{.tensor = 2, .data = 6, .pipeline = 2, .shard_group = 3};
  CHECK(t.shards() == 3);
  // Data ranks 3, 4, 5 of stage 1, tensor rank 1.
  const int rank = t.rank({.tensor = 1, .data = 4, .pipeline = 1});
  CHECK(t.shard_ranks(rank) == std::vector<int>{19, 21, 23});
  CHECK(t.replica_ranks(rank) == std::vector<int>{15, 21});
  t.shard_group = 0;
  CHECK(t.shards() == 6);
  CHECK(t.shard_ranks(rank) == t.group(rank, Axis::data));
  CHECK(t.replica_ranks(rank) == std::vector<int>{rank});
}

TEST_CASE("a topology describes itself", "[ranks=1]") {
  CHECK(Topology{}.describe() == "1 rank");
  CHECK(Topology{.tensor = 2, .data = 2, .pipeline = 2}.describe() == "pp2 x dp2 x tp2");
  CHECK(Topology{.tensor = 4, .context = 8}.describe() == "cp8 x tp4");
}

TEST_CASE("a rank outside the topology is a broken invariant", "[ranks=1]") {
  const Topology t{.tensor = 2};
  CHECK_THROWS_AS(t.coordinates(2), InternalError);
  CHECK_THROWS_AS(t.coordinates(-1), InternalError);
}
