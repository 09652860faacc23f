// The emulated NCCL, used rightly: results to the bit, groups, communicators side by side.
#include <cmath>

#include "core/base/rng.h"
#include "simt/nccl/ranks.h"

using namespace trident;
using namespace trident::testing;

namespace {

template <class T>
struct NcclType;
template <>
struct NcclType<float> {
  static constexpr ncclDataType_t value = ncclFloat32;
};
template <>
struct NcclType<double> {
  static constexpr ncclDataType_t value = ncclFloat64;
};
template <>
struct NcclType<bf16> {
  static constexpr ncclDataType_t value = ncclBfloat16;
};
template <>
struct NcclType<f16> {
  static constexpr ncclDataType_t value = ncclFloat16;
};
template <>
struct NcclType<int32_t> {
  static constexpr ncclDataType_t value = ncclInt32;
};
template <>
struct NcclType<int64_t> {
  static constexpr ncclDataType_t value = ncclInt64;
};
template <>
struct NcclType<uint8_t> {
  static constexpr ncclDataType_t value = ncclUint8;
};

template <class T>
std::vector<T> input(int rank, size_t count) {
  std::vector<T> x(count);
  const RandomKey key{7, 0, static_cast<uint32_t>(rank)};
  for (size_t i = 0; i < count; ++i) {
    const double normal = static_cast<double>(random_normal(key, static_cast<int64_t>(i)));
    if constexpr (std::is_integral_v<T>) {
      x[i] = static_cast<T>(std::abs(10 * normal));
    } else {
      x[i] = T(static_cast<float>(normal));
    }
  }
  return x;
}

/// What a reduction must give: in rank order, f32 between, one rounding.
template <class T>
std::vector<T> reduced(int ranks, size_t count, ncclRedOp_t op) {
  using Sum = std::conditional_t<std::is_same_v<T, double> || std::is_integral_v<T>, T, float>;
  std::vector<std::vector<T>> in;
  for (int r = 0; r < ranks; ++r) in.push_back(input<T>(r, count));
  std::vector<T> out(count);
  for (size_t i = 0; i < count; ++i) {
    Sum sum = static_cast<Sum>(in[0][i]);
    for (int r = 1; r < ranks; ++r) {
      const Sum x = static_cast<Sum>(in[r][i]);
      sum = op == ncclMax ? std::max(sum, x) : op == ncclMin ? std::min(sum, x) : static_cast<Sum>(sum + x);
    }
    if (op == ncclAvg) sum = static_cast<Sum>(sum / static_cast<Sum>(ranks));
    out[i] = static_cast<T>(sum);
  }
  return out;
}

template <class T>
void check_reductions(const Group& g, cudaStream_t stream, size_t count) {
  constexpr ncclDataType_t kType = NcclType<T>::value;
  for (const ncclRedOp_t op : {ncclSum, ncclMax, ncclMin, ncclAvg}) {
    INFO("type " << int(kType) << " op " << int(op) << " count " << count);
    const std::vector<T> expected = reduced<T>(g.size, count * g.size, op);
    const Values<T> in(input<T>(g.rank, count * g.size)), all(count * g.size), mine(count), rooted(count * g.size);
    ok(ncclAllReduce(in.at(), all.at(), count * g.size, kType, op, g.comm, stream));
    ok(ncclReduceScatter(in.at(), mine.at(), count, kType, op, g.comm, stream));
    ok(ncclReduce(in.at(), rooted.at(), count * g.size, kType, op, g.size - 1, g.comm, stream));
    ok(cudaStreamSynchronize(stream));
    CHECK(same_bits(all.get(), expected));
    const auto begin = expected.begin() + static_cast<long>(count) * g.rank;
    CHECK(same_bits(mine.get(), std::vector<T>(begin, begin + static_cast<long>(count))));
    if (g.rank == g.size - 1) CHECK(same_bits(rooted.get(), expected));
    // In place, and put together again: the bits of the all-reduce.
    ok(ncclAllGather(mine.at(), rooted.at(), count, kType, g.comm, stream));
    ok(ncclReduceScatter(in.at(), in.at(count * g.rank), count, kType, op, g.comm, stream));
    ok(ncclAllGather(in.at(count * g.rank), in.at(), count, kType, g.comm, stream));
    ok(cudaStreamSynchronize(stream));
    CHECK(same_bits(rooted.get(), expected));
    CHECK(same_bits(in.get(), expected));
  }
}

void check_all(const Group& g) {
  const OwnStream stream;
  for (const size_t count : {size_t{0}, size_t{1}, size_t{101}}) {
    check_reductions<float>(g, stream, count);
    check_reductions<double>(g, stream, count);
    check_reductions<bf16>(g, stream, count);
    check_reductions<f16>(g, stream, count);
    check_reductions<int32_t>(g, stream, count);
    check_reductions<int64_t>(g, stream, count);
    check_reductions<uint8_t>(g, stream, count);
  }
  for (int root = 0; root < g.size; ++root) {
    const Values<float> x(input<float>(g.rank, 777)), y(777);
    ok(ncclBroadcast(x.at(), y.at(), 777, ncclFloat32, root, g.comm, stream));
    stream.wait();
    CHECK(same_bits(y.get(), input<float>(root, 777)));
  }
}

void check_ring(const Group& g) {
  const OwnStream stream;
  const int next = (g.rank + 1) % g.size, previous = (g.rank + g.size - 1) % g.size;
  const Values<float> x(input<float>(g.rank, 5000)), y(5000), z(5000);
  ok(ncclGroupStart());
  ok(ncclSend(x.at(), 5000, ncclFloat32, next, g.comm, stream));
  ok(ncclRecv(y.at(), 5000, ncclFloat32, previous, g.comm, stream));
  ok(ncclSend(x.at(), 5000, ncclFloat32, g.rank, g.comm, stream));
  ok(ncclRecv(z.at(), 5000, ncclFloat32, g.rank, g.comm, stream));
  ok(ncclGroupEnd());
  stream.wait();
  CHECK(same_bits(y.get(), input<float>(previous, 5000)));
  CHECK(same_bits(z.get(), input<float>(g.rank, 5000)));
}

/// Two communicators over the same ranks, on two streams; even ranks wait for one first, odd ranks for the other.
void check_two_at_once() {
  const Group a, b;
  const OwnStream on_a, on_b;
  for (int round = 0; round < 5; ++round) {
    const Values<float> x(1000, 1.0f), y(1000, 2.0f);
    const bool even = a.rank % 2 == 0;
    const auto reduce = [](const Group& g, const Values<float>& v, cudaStream_t s) {
      ok(ncclAllReduce(v.at(), v.at(), 1000, ncclFloat32, ncclSum, g.comm, s));
    };
    if (even) reduce(a, x, on_a);
    reduce(b, y, on_b);
    if (!even) reduce(a, x, on_a);
    (even ? on_a : on_b).wait();
    (even ? on_b : on_a).wait();
    CHECK(x.get()[999] == static_cast<float>(a.size));
    CHECK(y.get()[0] == static_cast<float>(2 * a.size));
  }
}

}  // namespace

TEST_CASE("reductions, gathers and broadcasts to the bit: 1 rank", "[ranks=1]") { check_all(Group()); }
TEST_CASE("reductions, gathers and broadcasts to the bit: 2 ranks", "[ranks=2]") { check_all(Group()); }
TEST_CASE("reductions, gathers and broadcasts to the bit: 3 ranks", "[ranks=3]") { check_all(Group()); }
TEST_CASE("reductions, gathers and broadcasts to the bit: 4 ranks", "[ranks=4]") { check_all(Group()); }

TEST_CASE("a group's sends and receives progress together: 1 rank", "[ranks=1]") { check_ring(Group()); }
TEST_CASE("a group's sends and receives progress together: 2 ranks", "[ranks=2]") {
  under_every_policy([] { check_ring(Group()); });
}
TEST_CASE("a group's sends and receives progress together: 4 ranks", "[ranks=4]") {
  under_every_policy([] { check_ring(Group()); });
}

TEST_CASE("two communicators on two streams, waited for in opposite order", "[ranks=2]") {
  under_every_policy(check_two_at_once);
}
TEST_CASE("two communicators on two streams, waited for in opposite order: 4 ranks", "[ranks=4]") {
  under_every_policy(check_two_at_once);
}

TEST_CASE("one communicator on two streams keeps the order of issue", "[ranks=2]") {
  under_every_policy([] {
    const Group g;
    const OwnStream first, second;
    const Values<float> x(100, 1.0f), y(100, 2.0f);
    ok(ncclAllReduce(x.at(), x.at(), 100, ncclFloat32, ncclSum, g.comm, first));
    ok(ncclAllReduce(y.at(), y.at(), 50, ncclFloat32, ncclSum, g.comm, second));
    (g.rank == 0 ? first : second).wait();
    ok(cudaDeviceSynchronize());
    CHECK(x.get()[99] == 2);
    CHECK(y.get()[49] == 4);
    CHECK(y.get()[50] == 2);
  });
}

TEST_CASE("rows, columns and a split of a 2 x 2 grid", "[ranks=4]") {
  const int me = world_rank();
  const Group row(me / 2), column(me % 2), everyone;
  CHECK(row.size == 2);
  CHECK(column.rank == me / 2);
  const OwnStream stream;
  const auto sum_over = [&](ncclComm_t comm) {
    const Values<float> x(1, static_cast<float>(me));
    ok(ncclAllReduce(x.at(), x.at(), 1, ncclFloat32, ncclSum, comm, stream));
    stream.wait();
    return x.get()[0];
  };
  CHECK(sum_over(row.comm) == static_cast<float>(me / 2 * 4 + 1));
  CHECK(sum_over(column.comm) == static_cast<float>(me % 2 * 2 + 2));
  CHECK(sum_over(everyone.comm) == 6);
  ncclComm_t part = nullptr;
  ok(ncclCommSplit(everyone.comm, me == 3 ? NCCL_SPLIT_NOCOLOR : 0, -me, &part, nullptr));
  CHECK((part == nullptr) == (me == 3));
  if (part != nullptr) {
    int rank = -1, count = 0;
    ok(ncclCommUserRank(part, &rank));
    ok(ncclCommCount(part, &count));
    CHECK(rank == 2 - me);
    CHECK(count == 3);
    CHECK(sum_over(part) == 3);
    ok(ncclCommDestroy(part));
  }
}

TEST_CASE("a pipeline of sends under every policy", "[ranks=4]") {
  under_every_policy([] {
    const Group g;
    const OwnStream stream;
    for (int micro = 0; micro < 6; ++micro) {
      const Values<float> x(300, static_cast<float>(micro));
      if (g.rank > 0) ok(ncclRecv(x.at(), 300, ncclFloat32, g.rank - 1, g.comm, stream));
      if (g.rank < g.size - 1) ok(ncclSend(x.at(), 300, ncclFloat32, g.rank + 1, g.comm, stream));
      stream.wait();
      CHECK(x.get()[299] == static_cast<float>(micro));
    }
  });
}

TEST_CASE("a large all-reduce", "[ranks=3]") {
  const Group g;
  const OwnStream stream;
  constexpr size_t kCount = 3'000'001;
  const Values<float> x(kCount, 1.0f);
  ok(ncclAllReduce(x.at(), x.at(), kCount, ncclFloat32, ncclSum, g.comm, stream));
  stream.wait();
  const std::vector<float> sum = x.get();
  CHECK(std::count(sum.begin(), sum.end(), 3.0f) == static_cast<long>(kCount));
}

TEST_CASE("arguments that NCCL refuses", "[ranks=1]") {
  const Group g;
  const OwnStream stream;
  const Values<float> x(10);
  CHECK(ncclAllReduce(x.at(), x.at(), 1, ncclFloat32, ncclSum, nullptr, stream) == ncclInvalidArgument);
  CHECK(ncclBroadcast(x.at(), x.at(), 1, ncclFloat32, 1, g.comm, stream) == ncclInvalidArgument);
  CHECK(ncclGroupEnd() == ncclInvalidUsage);
  ncclComm_t none = nullptr;
  CHECK(ncclCommInitRank(&none, 1, ncclUniqueId{}, 0) == ncclInvalidArgument);
  int version = 0;
  ok(ncclGetVersion(&version));
  CHECK(version == NCCL_VERSION_CODE);
}
