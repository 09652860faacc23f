#include "core/comm/topology.h"

#include "core/base/error.h"

namespace trident {
namespace {

int& on_axis(Coordinates& at, Axis axis) {
  switch (axis) {
    case Axis::tensor: return at.tensor;
    case Axis::context: return at.context;
    case Axis::data: return at.data;
    case Axis::pipeline: break;
  }
  return at.pipeline;
}

}  // namespace

std::string_view axis_name(Axis axis) {
  constexpr std::string_view kNames[] = {"tensor", "context", "data", "pipeline"};
  return kNames[static_cast<size_t>(axis)];
}

int Topology::size(Axis axis) const {
  switch (axis) {
    case Axis::tensor: return tensor;
    case Axis::context: return context;
    case Axis::data: return data;
    case Axis::pipeline: break;
  }
  return pipeline;
}

Coordinates Topology::coordinates(int rank) const {
  ensure(rank >= 0 && rank < ranks(), "a rank lies in [0, ranks())");
  Coordinates at;
  at.tensor = rank % tensor;
  at.context = rank / tensor % context;
  at.data = rank / (tensor * context) % data;
  at.pipeline = rank / (tensor * context * data);
  return at;
}

int Topology::rank(const Coordinates& at) const {
  return ((at.pipeline * data + at.data) * context + at.context) * tensor + at.tensor;
}

int Topology::position(int rank, Axis axis) const {
  Coordinates at = coordinates(rank);
  return on_axis(at, axis);
}

std::vector<int> Topology::group(int member, Axis axis) const {
  Coordinates at = coordinates(member);
  std::vector<int> members(size(axis));
  for (int i = 0; i < size(axis); ++i) {
    on_axis(at, axis) = i;
    members[i] = rank(at);
  }
  return members;
}

std::vector<int> Topology::shard_ranks(int rank) const {
  const std::vector<int> all = group(rank, Axis::data);
  const auto first = all.begin() + coordinates(rank).data / shards() * shards();
  return {first, first + shards()};
}

std::vector<int> Topology::replica_ranks(int rank) const {
  const std::vector<int> all = group(rank, Axis::data);
  std::vector<int> members;
  for (int i = coordinates(rank).data % shards(); i < data; i += shards()) members.push_back(all[i]);
  return members;
}

std::string Topology::describe() const {
  std::string text;
  const auto add = [&](const char* name, int size) {
    if (size == 1) return;
    if (!text.empty()) text += " x ";
    text += name + std::to_string(size);
  };
  add("pp", pipeline);
  add("dp", data);
  add("cp", context);
  add("tp", tensor);
  return text.empty() ? "1 rank" : text;
}

}  // namespace trident
