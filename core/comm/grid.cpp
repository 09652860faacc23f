#include "core/comm/grid.h"

#include <map>

#include "core/base/error.h"

namespace trident {

std::string describe_transport(const Grid& grid) {
  std::map<std::string_view, std::string> axes;
  for (const auto* group : {&grid.tensor, &grid.context, &grid.data, &grid.pipeline}) {
    const Communicator& axis = **group;
    if (axis.size() == 1) continue;
    std::string& names = axes[axis.transport()];
    names += (names.empty() ? "" : ", ") + std::string(axis.axis());
  }
  std::string text;
  for (const auto& [transport, names] : axes) {
    text += build_string(text.empty() ? "" : "; ", names, ": ", transport);
  }
  return text;
}

Grid make_grid(World& world, const Topology& topology) {
  if (topology.ranks() != world.size()) {
    throw UserError(build_string("the topology ", topology.describe(), " needs ", topology.ranks(),
                                 " ranks, but the job has ", world.size(), ": start it with mpirun -n ",
                                 topology.ranks(), " or change parallel.*"));
  }
  Grid grid;
  grid.topology = topology;
  grid.at = topology.coordinates(world.rank());
  // A group's color is its first member. Groups come out in order of position, because ranks ascend along every axis.
  const auto along = [&](Axis axis) { return world.split(topology.group(world.rank(), axis)[0], axis_name(axis)); };
  grid.world = world.split(0, "world");
  grid.tensor = along(Axis::tensor);
  grid.context = along(Axis::context);
  grid.data = along(Axis::data);
  grid.pipeline = along(Axis::pipeline);
  const bool end = topology.pipeline > 1 && (grid.at.pipeline == 0 || grid.at.pipeline == topology.pipeline - 1);
  grid.ends = world.split(end ? topology.group(world.rank(), Axis::pipeline)[0] : world.rank(), "ends");
  if (topology.shards() < topology.data) {
    grid.shards = world.split(topology.shard_ranks(world.rank())[0], "shards");
    grid.replicas = world.split(topology.replica_ranks(world.rank())[0], "replicas");
  } else {
    grid.replicas = world.split(world.rank(), "replicas");
  }
  return grid;
}

}  // namespace trident
