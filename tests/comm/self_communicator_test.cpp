#include "comm/ranks.h"
#include "core/base/error.h"

using namespace trident;
using namespace trident::testing;

TEST_CASE("a group of one is the identity", "[ranks=1]") {
  const auto group = make_self_communicator("tensor");
  HostStream stream(HostStream::Mode::worker);
  CHECK(group->size() == 1);
  CHECK(group->rank() == 0);
  CHECK(group->axis() == "tensor");
  Buffer x(DType::bf16, 100), original(DType::bf16, 100), other(DType::bf16, 100);
  x.fill_random(3);
  original.fill_random(3);
  group->all_reduce(*x, Reduce::sum, stream.handle());
  group->broadcast(*x, 0, stream.handle());
  group->reduce_scatter(*x, *x, Reduce::max, stream.handle());
  synchronize(stream);
  CHECK(same_bits(*x, *original));
  group->all_gather(*other, *x, stream.handle());
  synchronize(stream);
  CHECK(same_bits(*other, *original));
  const std::byte byte{7};
  const auto all = group->all_gather_bytes({&byte, 1});
  REQUIRE(all.size() == 1);
  CHECK(all[0] == std::vector<std::byte>{byte});
  group->barrier();
}

TEST_CASE("dry tensors pass through a group of one", "[ranks=1]") {
  const auto group = make_self_communicator("data");
  const Tensor dry(nullptr, DType::f32, {8});
  CHECK_NOTHROW(group->all_gather(dry, dry, Stream{}));
  CHECK_NOTHROW(group->reduce_scatter(dry, dry, Reduce::sum, Stream{}));
}

TEST_CASE("a group of one has no peers", "[ranks=1]") {
  const auto group = make_self_communicator("pipeline");
  Buffer x(DType::f32, 2), shard(DType::f32, 1);
  CHECK_THROWS_AS(group->send(*x, 0, 0, Stream{}), InternalError);
  CHECK_THROWS_AS(group->recv(*x, 0, 0, Stream{}), InternalError);
  CHECK_THROWS_AS(group->broadcast(*x, 1, Stream{}), InternalError);
  CHECK_THROWS_AS(group->all_gather(*x, *shard, Stream{}), InternalError);
}
