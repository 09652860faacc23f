#include "core/comm/grid.h"

#include "comm/ranks.h"
#include "core/base/error.h"

using namespace trident;
using namespace trident::testing;

namespace {

/// The sum of the ranks' numbers over a group, through the group itself.
double sum_of_ranks(Communicator& group, int rank, HostStream& stream) {
  Buffer x(DType::f64, 1);
  put(*x, 0, rank);
  group.all_reduce(*x, Reduce::sum, stream.handle());
  synchronize(stream);
  return get(*x, 0);
}

double sum(const std::vector<int>& ranks) {
  double total = 0;
  for (const int rank : ranks) total += rank;
  return total;
}

}  // namespace

TEST_CASE("the groups of a 2 x 2 x 2 grid are the topology's", "[ranks=8]") {
  Job job;
  const Topology topology{.tensor = 2, .data = 2, .pipeline = 2};
  const int me = job.world->rank();
  const Grid grid = make_grid(*job.world, topology);
  CHECK(grid.at == topology.coordinates(me));
  const std::pair<Communicator*, Axis> axes[] = {{grid.tensor.get(), Axis::tensor},
                                                 {grid.context.get(), Axis::context},
                                                 {grid.data.get(), Axis::data},
                                                 {grid.pipeline.get(), Axis::pipeline}};
  for (const auto& [group, axis] : axes) {
    INFO(axis_name(axis));
    CHECK(group->axis() == axis_name(axis));
    CHECK(group->size() == topology.size(axis));
    CHECK(group->rank() == topology.position(me, axis));
    CHECK(sum_of_ranks(*group, me, job.compute) == sum(topology.group(me, axis)));
  }
  CHECK(grid.world->size() == 8);
  CHECK(describe_transport(grid) == "tensor, data, pipeline: shared memory");
  CHECK(grid.ends->size() == 2);
  CHECK(sum_of_ranks(*grid.ends, me, job.compute) == sum(topology.group(me, Axis::pipeline)));
}

TEST_CASE("the ends of a pipeline are its first and last stage", "[ranks=4]") {
  Job job;
  const Grid grid = make_grid(*job.world, {.pipeline = 4});
  const int me = job.world->rank();
  const bool end = me == 0 || me == 3;
  CHECK(grid.ends->size() == (end ? 2 : 1));
  CHECK(sum_of_ranks(*grid.ends, me, job.compute) == (end ? 3 : me));
}

TEST_CASE("rows and columns of a grid reduce at once on their own streams", "[ranks=8]") {
  Job job;
  const Topology topology{.tensor = 2, .data = 2, .pipeline = 2};
  const int me = job.world->rank();
  const Grid grid = make_grid(*job.world, topology);
  constexpr int64_t kCount = 10'007;
  Buffer tensor(DType::f32, kCount), data(DType::f32, kCount), pipeline(DType::f32, kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    for (Buffer* x : {&tensor, &data, &pipeline}) put(**x, i, me);
  }
  for (int round = 0; round < 5; ++round) {
    grid.data->all_reduce(*data, Reduce::sum, job.comm.handle());
    grid.pipeline->all_reduce(*pipeline, Reduce::sum, job.send.handle());
    grid.tensor->all_reduce(*tensor, Reduce::sum, job.compute.handle());
  }
  synchronize(job.comm);
  synchronize(job.send);
  // The first sum makes the members equal; each of the four later ones doubles.
  const std::pair<Buffer*, Axis> results[] = {
      {&tensor, Axis::tensor}, {&data, Axis::data}, {&pipeline, Axis::pipeline}};
  for (const auto& [x, axis] : results) {
    const double expected = 16 * sum(topology.group(me, axis));
    int64_t wrong = 0;
    for (int64_t i = 0; i < kCount; ++i) wrong += get(**x, i) != expected;
    INFO(axis_name(axis) << ": element 0 is " << get(**x, 0) << ", expected " << expected);
    CHECK(wrong == 0);
  }
}

TEST_CASE("the ledger's volumes are the ring's", "[ranks=2][ranks=3][ranks=4]") {
  Job job;
  const auto group = job.world->split(0, "data");
  const int n = group->size(), me = group->rank();
  const int64_t shard_bytes = 4000, full_bytes = n * shard_bytes;
  Buffer full(DType::f32, full_bytes / 4), shard(DType::f32, shard_bytes / 4), tiny(DType::f64, n);
  const Stream stream = job.compute.handle();
  group->all_reduce(*full, Reduce::sum, stream);
  group->all_reduce(*tiny, Reduce::sum, stream);
  group->reduce_scatter(*shard, *full, Reduce::sum, stream);
  group->all_gather(*full, *shard, stream);
  group->broadcast(*shard, 1, stream);
  if (me == 0) group->send(*shard, 1, 3, stream);
  if (me == 1) group->recv(*shard, 0, 3, stream);
  auto volumes = job.world->ledger().volumes();
  CHECK(volumes["data.all_reduce"].calls == 2);
  CHECK(volumes["data.all_reduce"].bytes == 2 * (n - 1) * (full_bytes + 8 * n) / n);
  CHECK(volumes["data.reduce_scatter"].bytes == (n - 1) * full_bytes / n);
  CHECK(volumes["data.all_gather"].bytes == (n - 1) * full_bytes / n);
  CHECK(volumes["data.broadcast"].bytes == (me == 1 ? shard_bytes : 0));
  CHECK(volumes["data.send"].bytes == (me == 0 ? shard_bytes : 0));
}

TEST_CASE("the world knows its hosts", "[ranks=1][ranks=2][ranks=4]") {
  Job job;
  CHECK_FALSE(job.world->host().empty());
  CHECK(job.world->local_size() == job.world->size());  // the tests run on one machine
  CHECK(job.world->local_rank() == job.world->rank());
}

TEST_CASE("a topology that does not fit the job is the user's mistake", "[ranks=1][ranks=2]") {
  Job job;
  const Topology topology{.tensor = 2, .data = 3};
  try {
    make_grid(*job.world, topology);
    FAIL("a grid of 6 ranks was made from fewer");
  } catch (const UserError& error) {
    const std::string text = error.what();
    INFO(text);
    CHECK(text.find("dp3 x tp2 needs 6 ranks") != std::string::npos);
    CHECK(text.find("mpirun -n 6") != std::string::npos);
  }
}

TEST_CASE("a world of one needs no MPI", "[ranks=1]") {
  const auto world = make_self_world();
  CHECK(world->size() == 1);
  CHECK_FALSE(world->host().empty());
  const Grid grid = make_grid(*world, {});
  CHECK(grid.world->size() == 1);
  CHECK(grid.ends->axis() == "ends");
}
