// Collectives against closed forms: rank r holds (r + 1) * (i % 7 - 3), small integers that every dtype holds exactly,
// so that the answers are exact too.
#include <thread>

#include "comm/ranks.h"
#include "core/base/error.h"

using namespace trident;
using namespace trident::testing;

namespace {

double pattern(int rank, int64_t i) { return (rank + 1) * static_cast<double>(i % 7 - 3); }
double pattern_sum(int ranks, int64_t i) { return ranks * (ranks + 1) / 2 * static_cast<double>(i % 7 - 3); }
double pattern_max(int ranks, int64_t i) { return i % 7 > 3 ? pattern(ranks - 1, i) : pattern(0, i); }

/// Both ways between ranks of one host, and both with memory and messages so small that a few hundred elements take
/// many turns.
constexpr CommLimits kShared{}, kMessages{.shared_memory = false};
constexpr CommLimits kSmallShared{.stage_bytes = 2048};
constexpr CommLimits kSmallMessages{
    .scratch_bytes = 1024, .message_bytes = 96, .tiny_bytes = 64, .shared_memory = false};

/// Fails on the first element that differs, and says which.
template <class Expected>
void check_elements(const Tensor& t, Expected expected) {
  for (int64_t i = 0; i < t.numel(); ++i) {
    if (get(t, i) == expected(i)) continue;
    INFO(t.describe() << " at " << i << ": got " << get(t, i) << ", expected " << expected(i));
    FAIL();
  }
  SUCCEED();
}

void check_all_reduce(Communicator& group, HostStream& stream, DType dtype, int64_t count, Reduce reduce) {
  const int n = group.size(), me = group.rank();
  Buffer x(dtype, count);
  for (int64_t i = 0; i < count; ++i) put(*x, i, pattern(me, i));
  group.all_reduce(*x, reduce, stream.handle());
  synchronize(stream);
  check_elements(*x, [&](int64_t i) { return reduce == Reduce::sum ? pattern_sum(n, i) : pattern_max(n, i); });
}

void check_reduce_scatter(Communicator& group, HostStream& stream, DType dtype, int64_t shard_count, bool in_place) {
  const int n = group.size(), me = group.rank();
  Buffer full(dtype, n * shard_count), apart(dtype, shard_count);
  for (int64_t i = 0; i < n * shard_count; ++i) put(*full, i, pattern(me, i));
  const Tensor shard = in_place ? full->rows(me * shard_count, (me + 1) * shard_count) : *apart;
  group.reduce_scatter(shard, *full, Reduce::sum, stream.handle());
  synchronize(stream);
  check_elements(shard, [&](int64_t i) { return pattern_sum(n, me * shard_count + i); });
}

void check_all_gather(Communicator& group, HostStream& stream, DType dtype, int64_t shard_count, bool in_place) {
  const int n = group.size(), me = group.rank();
  Buffer full(dtype, n * shard_count), apart(dtype, shard_count);
  const Tensor shard = in_place ? full->rows(me * shard_count, (me + 1) * shard_count) : *apart;
  for (int64_t i = 0; i < shard_count; ++i) put(shard, i, pattern(me, i));
  group.all_gather(*full, shard, stream.handle());
  synchronize(stream);
  check_elements(*full, [&](int64_t i) { return pattern(static_cast<int>(i / shard_count), i % shard_count); });
}

void check_broadcast(Communicator& group, HostStream& stream, DType dtype, int64_t count, int root) {
  Buffer x(dtype, count);
  for (int64_t i = 0; i < count; ++i) put(*x, i, pattern(group.rank(), i));
  group.broadcast(*x, root, stream.handle());
  synchronize(stream);
  check_elements(*x, [&](int64_t i) { return pattern(root, i); });
}

void check_collectives(const CommLimits& limits, const std::vector<int64_t>& counts) {
  Job job(limits);
  const auto group = job.world->split(0, "world");
  for (HostStream* stream : {&job.compute, &job.comm}) {
    for (const DType dtype : kReducible) {
      for (const int64_t count : counts) {
        check_all_reduce(*group, *stream, dtype, count, Reduce::sum);
        check_all_reduce(*group, *stream, dtype, count, Reduce::max);
        check_reduce_scatter(*group, *stream, dtype, count, false);
        check_reduce_scatter(*group, *stream, dtype, count, true);
        check_all_gather(*group, *stream, dtype, count, false);
        check_all_gather(*group, *stream, dtype, count, true);
        check_broadcast(*group, *stream, dtype, count, static_cast<int>(count) % group->size());
      }
    }
  }
}

}  // namespace

TEST_CASE("collectives give the closed forms", "[ranks=1][ranks=2][ranks=3][ranks=4][ranks=8]") {
  for (const CommLimits& limits : {kShared, kMessages}) check_collectives(limits, {0, 1, 2, 7, 1000, 5003});
}

TEST_CASE("collectives longer than stage, scratch and message", "[ranks=2][ranks=3][ranks=4][ranks=8]") {
  for (const CommLimits& limits : {kSmallShared, kSmallMessages}) check_collectives(limits, {1, 31, 257, 1001});
}

TEST_CASE("tensors longer than the default stage and scratch", "[ranks=2][ranks=3]") {
  for (const CommLimits& limits : {kShared, kMessages}) {
    Job job(limits);
    const auto group = job.world->split(0, "world");
    // 5.2 million floats are 20 MiB: more than two turns of the scratch at 2 ranks, with a tail.
    check_all_reduce(*group, job.comm, DType::f32, 5'200'001, Reduce::sum);
    check_reduce_scatter(*group, job.comm, DType::f32, 2'600'001, true);
    check_all_gather(*group, job.comm, DType::f32, 400'001, false);
    check_broadcast(*group, job.comm, DType::f32, 400'001, 1);
  }
}

TEST_CASE("shared memory and messages give the same bits", "[ranks=2][ranks=3][ranks=4][ranks=8]") {
  for (const CommLimits& small : {kShared, kSmallShared}) {
    Job shared(small), messages(kMessages);
    const auto group = shared.world->split(0, "shared"), other = messages.world->split(0, "messages");
    REQUIRE(group->transport() == "shared memory");
    REQUIRE(other->transport() == "MPI");
    const int n = group->size(), me = group->rank();
    for (const DType dtype : kReducible) {
      for (const Reduce reduce : {Reduce::sum, Reduce::max}) {
        // On both sides of the length up to which every rank sums everything, and odd.
        for (const int64_t shard : {1, 77, 1023, 40'009}) {
          Buffer a(dtype, n * shard), b(dtype, n * shard), part_a(dtype, shard), part_b(dtype, shard);
          a.fill_random(me);
          b.fill_random(me);
          group->reduce_scatter(*part_a, *a, reduce, shared.comm.handle());
          other->reduce_scatter(*part_b, *b, reduce, messages.compute.handle());
          group->all_reduce(*a, reduce, shared.comm.handle());
          other->all_reduce(*b, reduce, messages.compute.handle());
          synchronize(shared.comm);
          INFO(a->describe());
          CHECK(same_bits(*part_a, *part_b));
          CHECK(same_bits(*a, *b));
        }
      }
    }
  }
}

TEST_CASE("where memory cannot be shared, messages do the work", "[ranks=2][ranks=4]") {
  Job job({.stage_bytes = size_t{1} << 58});  // no address space for that
  const auto group = job.world->split(0, "world"), again = job.world->split(0, "data");
  CHECK(group->transport() == "MPI");
  CHECK(again->transport() == "MPI");
  check_all_reduce(*group, job.comm, DType::f32, 5003, Reduce::sum);
  check_all_reduce(*again, job.comm, DType::f32, 5003, Reduce::sum);
}

TEST_CASE("ranks out of step read nothing too early", "[ranks=2][ranks=3][ranks=4]") {
  // Every kind of turn after every other, with one rank or another always late.
  Job job(kSmallShared);
  const auto group = job.world->split(0, "world");
  const int n = group->size(), me = group->rank();
  for (int round = 0; round < 60; ++round) {
    if (round % n == me) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const int64_t count = 1 + round * 37 % 400;
    switch (round * 7 % 5) {
      case 0: check_all_reduce(*group, job.compute, DType::f32, count, Reduce::sum); break;
      case 1: check_broadcast(*group, job.compute, DType::f32, count, round % n); break;
      case 2: check_all_gather(*group, job.compute, DType::bf16, count, true); break;
      case 3: check_reduce_scatter(*group, job.compute, DType::f32, count, false); break;
      default: group->barrier();
    }
    check_broadcast(*group, job.compute, DType::f32, count, (round + 1) % n);
  }
}

TEST_CASE("all_reduce is reduce_scatter and all_gather bit for bit", "[ranks=2][ranks=3][ranks=4][ranks=8]") {
  for (const CommLimits& limits : {kShared, kSmallShared, kMessages, kSmallMessages}) {
    Job job(limits);
    const auto group = job.world->split(0, "world");
    const int n = group->size(), me = group->rank();
    for (const DType dtype : kReducible) {
      for (const int64_t shard : {1, 5, 333, 4099}) {
        Buffer whole(dtype, n * shard), scattered(dtype, n * shard);
        whole.fill_random(me);
        scattered.fill_random(me);
        group->all_reduce(*whole, Reduce::sum, job.compute.handle());
        const Tensor mine = scattered->rows(me * shard, (me + 1) * shard);
        group->reduce_scatter(mine, *scattered, Reduce::sum, job.compute.handle());
        group->all_gather(*scattered, mine, job.compute.handle());
        INFO(whole->describe());
        CHECK(same_bits(*whole, *scattered));

        // Another cut of the same data, an odd one: still the same bits.
        Buffer cut(dtype, n * shard);
        cut.fill_random(me);
        const int64_t at = n * shard / 3;
        group->all_reduce(cut->rows(0, at), Reduce::sum, job.compute.handle());
        group->all_reduce(cut->rows(at, n * shard), Reduce::sum, job.compute.handle());
        CHECK(same_bits(*whole, *cut));
      }
    }
  }
}

TEST_CASE("sends and receives match by tag, in any order", "[ranks=2][ranks=3]") {
  Job job(kSmallMessages);
  const auto group = job.world->split(0, "pipeline");
  constexpr int kMessages = 5;
  constexpr int64_t kCount = 301;  // longer than one message and than the eager limit of one
  if (group->rank() == 0) {
    std::vector<Buffer> out;
    for (int tag = 0; tag < kMessages; ++tag) {
      out.emplace_back(DType::f32, kCount);
      for (int64_t i = 0; i < kCount; ++i) put(*out.back(), i, tag * 1000 + static_cast<double>(i));
      // Each on its own thread: a blocking send of tag 0 would never let the later ones go first.
    }
    std::vector<std::unique_ptr<HostStream>> streams;
    for (int tag = 0; tag < kMessages; ++tag) {
      streams.push_back(std::make_unique<HostStream>(HostStream::Mode::worker));
      group->send(*out[tag], 1, tag, streams.back()->handle());
    }
    for (const auto& stream : streams) synchronize(*stream);
  } else if (group->rank() == 1) {
    for (int tag = kMessages - 1; tag >= 0; --tag) {
      Buffer in(DType::f32, kCount);
      group->recv(*in, 0, tag, job.compute.handle());
      check_elements(*in, [&](int64_t i) { return tag * 1000 + static_cast<double>(i); });
    }
  }
  group->barrier();
}

TEST_CASE("a ring of long sends does not deadlock", "[ranks=2][ranks=3][ranks=4][ranks=8]") {
  Job job;
  const auto group = job.world->split(0, "pipeline");
  const int n = group->size(), me = group->rank();
  constexpr int64_t kCount = 300'000;  // far above any eager limit: a send waits for its receiver
  Buffer out(DType::f32, kCount), in(DType::f32, kCount);
  for (int64_t i = 0; i < kCount; ++i) put(*out, i, pattern(me, i));
  group->send(*out, (me + 1) % n, 9, job.send.handle());
  group->recv(*in, (me + n - 1) % n, 9, job.compute.handle());
  synchronize(job.send);
  check_elements(*in, [&](int64_t i) { return pattern((me + n - 1) % n, i); });
}

TEST_CASE("bytes of different lengths are gathered everywhere", "[ranks=1][ranks=2][ranks=3][ranks=8]") {
  for (const CommLimits& limits : {kShared, kSmallShared, kMessages, kSmallMessages}) {
    Job job(limits);
    const auto group = job.world->split(0, "world");
    const int me = group->rank();
    const std::vector<std::byte> mine(me * 700, static_cast<std::byte>(me));  // rank 0 has nothing to say
    const auto all = group->all_gather_bytes(mine);
    REQUIRE(all.size() == static_cast<size_t>(group->size()));
    for (int r = 0; r < group->size(); ++r) {
      CHECK(all[r] == std::vector<std::byte>(r * 700, static_cast<std::byte>(r)));
    }
    group->barrier();
  }
}

TEST_CASE("communicators work at once from several streams", "[ranks=2][ranks=4][ranks=8]") {
  for (const CommLimits& limits : {kShared, kSmallShared, kMessages}) {
    Job job(limits);
    // Two over all ranks and one over pairs, as the axes of a grid are.
    const auto first = job.world->split(0, "first"), second = job.world->split(0, "second");
    const auto pair = job.world->split(first->rank() / 2, "pair");
    const int n = first->size(), me = first->rank();
    constexpr int64_t kCount = 20'011;
    constexpr int kRounds = 20;
    Buffer a(DType::f32, kCount), b(DType::f64, kCount), c(DType::f32, kCount);
    for (int64_t i = 0; i < kCount; ++i) {
      put(*a, i, pattern(me, i));
      put(*b, i, pattern(me, i));
      put(*c, i, pattern(me % 2, i));
    }
    for (int round = 0; round < kRounds; ++round) {
      first->all_reduce(*a, Reduce::max, job.comm.handle());
      pair->all_reduce(*c, Reduce::max, job.send.handle());
      second->all_reduce(*b, Reduce::max, job.compute.handle());
    }
    synchronize(job.comm);
    synchronize(job.send);
    check_elements(*a, [&](int64_t i) { return pattern_max(n, i); });
    check_elements(*b, [&](int64_t i) { return pattern_max(n, i); });
    check_elements(*c, [&](int64_t i) { return pattern_max(2, i); });
  }
}

TEST_CASE("a broken contract is named", "[ranks=2]") {
  Job job;
  const auto group = job.world->split(0, "world");
  Buffer full(DType::f32, 8), shard(DType::f32, 3), bytes(DType::u8, 4);
  const Stream stream = job.compute.handle();
  CHECK_THROWS_AS(group->reduce_scatter(*shard, *full, Reduce::sum, stream), InternalError);
  CHECK_THROWS_AS(group->all_gather(*full, *shard, stream), InternalError);
  CHECK_THROWS_AS(group->broadcast(*full, 2, stream), InternalError);
  CHECK_THROWS_AS(group->send(*full, group->rank(), 0, stream), InternalError);
  CHECK_THROWS_AS(group->recv(*full, 1 - group->rank(), -1, stream), InternalError);
  CHECK_THROWS_AS(group->all_reduce(*bytes, Reduce::sum, stream), InternalError);
  CHECK_THROWS_AS(group->all_reduce(Tensor(nullptr, DType::f32, {4}), Reduce::sum, stream), InternalError);
  CHECK_THROWS_AS(group->all_reduce(*full, Reduce::sum, Stream{}), InternalError);
}

TEST_CASE("a receive shorter than its send is an error", "[ranks=2]") {
  Job job;
  const auto group = job.world->split(0, "pipeline");
  Buffer x(DType::f32, 4);
  if (group->rank() == 0) {
    group->send(*x, 1, 0, job.compute.handle());
  } else {
    CHECK_THROWS_AS(group->recv(x->rows(0, 2), 0, 0, job.compute.handle()), RunError);
  }
  group->barrier();
}
