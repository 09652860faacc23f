// Every CPU operation with sums across rows or tiles gives the same bits for any number of threads, on shapes large
// enough to be shared out. The case list holds small shapes against the oracle; this holds large ones against
// themselves.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/peak.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// Tensors filled with seeded numbers; the same sequence of calls gives the same numbers.
class Room {
 public:
  Tensor make(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape);
    blocks_.push_back(std::vector<char>(t.bytes()));
    t.data = blocks_.back().data();
    const RandomKey key{3, 0, static_cast<uint32_t>(blocks_.size())};
    for (int64_t i = 0; i < t.numel(); ++i) {
      const uint32_t word = random_u32(key, static_cast<uint64_t>(i));
      if (dtype == DType::f32) t.as<float>()[i] = uniform01(word) - 0.25f;
      if (dtype == DType::bf16) t.as<bf16>()[i] = bf16(uniform01(word) - 0.25f);
      if (dtype == DType::i32) t.as<int32_t>()[i] = static_cast<int32_t>(word % 50);
    }
    return t;
  }
  Tensor scratch(size_t bytes) { return bytes == 0 ? Tensor{} : make(DType::u8, {static_cast<int64_t>(bytes)}); }
  static std::vector<char> bytes(const Tensor& t) {
    const char* p = static_cast<const char*>(t.data);
    return {p, p + t.bytes()};
  }

 private:
  std::vector<std::vector<char>> blocks_;
};

/// `run` returns the outputs of one call; they must not depend on the number of threads.
void check_threads(const std::string& name, const std::function<std::vector<Tensor>(const Ops&, Room&)>& run) {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const int before = omp_get_max_threads();
  const auto outputs = [&](int threads) {
    omp_set_num_threads(threads);
    Room room;
    std::vector<std::vector<char>> bytes;
    for (const Tensor& t : run(*ops, room)) bytes.push_back(Room::bytes(t));
    return bytes;
  };
  const auto want = outputs(1);
  for (const int threads : {2, 3}) {
    INFO(name << " with " << threads << " threads");
    CHECK(outputs(threads) == want);
  }
  omp_set_num_threads(before);
}

}  // namespace

TEST_CASE("attention does not depend on the number of threads") {
  for (const float dropout : {0.0f, 0.2f}) {
    check_threads("attention", [dropout](const Ops& ops, Room& room) -> std::vector<Tensor> {
      AttentionArgs args;
      args.context = 201, args.heads = 4, args.kv_heads = 2, args.heads_total = 4, args.head_size = 24;
      args.scale = 0.2f, args.dropout = dropout, args.dropout_key = {1, 2, 3};
      args.qkv = room.make(DType::bf16, {402, 8 * 24});
      args.out = room.make(DType::bf16, {402, 4 * 24});
      args.lse = room.make(DType::f32, {2, 4, 201});
      args.scratch = room.scratch(ops.scratch_bytes(args));
      AttentionBackwardArgs backward{
          args, room.make(DType::bf16, {402, 8 * 24}), room.make(DType::bf16, {402, 4 * 24}), {}};
      backward.scratch = room.scratch(ops.scratch_bytes(backward));
      ops.attention_forward({}, args);
      ops.attention_backward({}, backward);
      return {args.out, args.lse, backward.dqkv};
    });
  }
}

TEST_CASE("norms and column sums do not depend on the number of threads") {
  check_threads("norm", [](const Ops& ops, Room& room) -> std::vector<Tensor> {
    NormArgs args;
    args.x_TD = room.make(DType::bf16, {517, 200}), args.y_TD = room.make(DType::bf16, {517, 200});
    args.w_D = room.make(DType::bf16, {200}), args.b_D = room.make(DType::bf16, {200});
    args.mean_T = room.make(DType::f32, {517}), args.rstd_T = room.make(DType::f32, {517});
    NormBackwardArgs backward{args, room.make(DType::bf16, {517, 200}), room.make(DType::bf16, {517, 200}),
                              {},   room.make(DType::f32, {200}),       room.make(DType::f32, {200}),
                              {}};
    backward.scratch = room.scratch(ops.scratch_bytes(backward));
    const Tensor db_N = room.make(DType::f32, {200});
    ops.norm_forward({}, args);
    ops.norm_backward({}, backward);
    ops.bias_backward({}, db_N, args.y_TD, {});
    return {args.y_TD, backward.dx_TD, backward.dw_D, backward.db_D, db_N};
  });
}

TEST_CASE("embedding gradients and sums do not depend on the number of threads") {
  check_threads("embedding", [](const Ops& ops, Room& room) -> std::vector<Tensor> {
    const Tensor dtable = room.make(DType::f32, {40, 200}), positions = room.make(DType::f32, {64, 200});
    const Tensor id_T = room.make(DType::i32, {700}), dy_TD = room.make(DType::bf16, {700, 200});
    ops.embedding_backward({}, dtable, id_T, dy_TD, 5, room.scratch(ops.embedding_scratch_bytes(700, 40)));
    ops.position_backward({}, positions, dy_TD, 30, 61);
    return {dtable, positions};
  });
  check_threads("sums", [](const Ops& ops, Room& room) -> std::vector<Tensor> {
    const Tensor squares = room.make(DType::f64, {1}), total = room.make(DType::f64, {1});
    const Tensor x = room.make(DType::f32, {1'300'003});
    ops.sum_squares({}, squares, x, {});
    ops.sum({}, total, x, {});
    CHECK(squares.as<double>()[0] > 100'000);
    return {squares, total};
  });
}

TEST_CASE("attention works with scratch for one thread and is refused without") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  Room room;
  const int before = omp_get_max_threads();
  AttentionArgs args;
  args.context = 200, args.heads = args.kv_heads = args.heads_total = 4, args.head_size = 64;
  args.qkv = room.make(DType::f32, {200, 3 * 256});
  args.out = room.make(DType::f32, {200, 256});
  args.lse = room.make(DType::f32, {1, 4, 200});
  CHECK_THROWS_AS(ops->attention_forward({}, args), InternalError);
  omp_set_num_threads(1);
  args.scratch = room.scratch(ops->scratch_bytes(args));
  ops->attention_forward({}, args);
  const std::vector<char> want = Room::bytes(args.out);
  omp_set_num_threads(3);
  ops->attention_forward({}, args);
  CHECK(Room::bytes(args.out) == want);
  omp_set_num_threads(before);
}

TEST_CASE("the GEMM peak is a positive speed in each dtype") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double peak = measure_gemm_peak(dtype, 0.0);
    CHECK(peak > 1e6);
    CHECK(peak < 1e15);
  }
}

TEST_CASE("the memory stream visits every element once") {
  for (const int64_t n : {1, 15, 17, 100'003}) {
    std::vector<float> x(static_cast<size_t>(n + 1), 3.0f);
    stream_through(x.data(), n, 2.0f);
    CHECK(std::all_of(x.begin(), x.end() - 1, [](float value) { return value == 6.0f; }));
    CHECK(x.back() == 3.0f);
  }
}
