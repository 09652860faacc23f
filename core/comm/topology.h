// Topology: the rank arithmetic of the pipeline x data x context x tensor grid. No communication.
// Rank order: tensor fastest, then context, then data, pipeline slowest, so that tensor groups stay inside a node.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

enum class Axis : uint8_t { tensor, context, data, pipeline };
std::string_view axis_name(Axis);

/// A rank's place on every axis.
struct Coordinates {
  int tensor = 0, context = 0, data = 0, pipeline = 0;
  bool operator==(const Coordinates&) const = default;
};

struct Topology {
  int tensor = 1, context = 1, data = 1, pipeline = 1;
  /// Consecutive data ranks that share shards among them; the other groups hold replicas. A divisor of `data`; 0: all.
  int shard_group = 0;

  int shards() const { return shard_group == 0 ? data : shard_group; }
  int ranks() const { return tensor * context * data * pipeline; }
  int size(Axis) const;
  Coordinates coordinates(int rank) const;
  int rank(const Coordinates&) const;
  int position(int rank, Axis) const;
  /// The ranks that differ from `rank` on this axis only, in order of position.
  std::vector<int> group(int rank, Axis) const;
  /// The ranks of `rank`'s shard group, and those that hold the same shard in each group; in order of position.
  std::vector<int> shard_ranks(int rank) const;
  std::vector<int> replica_ranks(int rank) const;
  /// "pp2 x dp2 x tp2", axes of size 1 left out; "1 rank" when all are.
  std::string describe() const;
};

}  // namespace trident
