// The CPU GEMM beyond the case list: the oneDNN path, independence of threads and of how rows are split, refusals.
#include <omp.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/families.h"
#include "support/catch.h"

using namespace trident;

namespace {

/// A GEMM call that owns its memory.
struct Call {
  GemmArgs args;
  std::vector<std::vector<char>> blocks;

  Call(DType dtype, DType c_dtype, int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, bool accumulate,
       bool bias) {
    blocks.reserve(8);
    args.c_MN = make(c_dtype, {m, n});
    args.a = transpose_a ? make(dtype, {k, m}) : make(dtype, {m, k});
    args.b = transpose_b ? make(dtype, {n, k}) : make(dtype, {k, n});
    if (bias) args.bias_N = make(dtype, {n});
    args.transpose_a = transpose_a;
    args.transpose_b = transpose_b;
    args.accumulate = accumulate;
  }
  Tensor make(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor t(nullptr, dtype, shape);
    blocks.emplace_back(t.bytes());
    t.data = blocks.back().data();
    const RandomKey key{11, 0, static_cast<uint32_t>(blocks.size())};
    for (int64_t i = 0; i < t.numel(); ++i) {
      const float x = uniform01(random_u32(key, static_cast<uint64_t>(i))) - 0.5f;
      if (dtype == DType::f32) t.as<float>()[i] = x;
      if (dtype == DType::bf16) t.as<bf16>()[i] = bf16(x);
    }
    return t;
  }
  template <class Table>
  std::vector<char> run(const Table& table) {
    std::vector<char> c = blocks[0], scratch(table.scratch_bytes(args) + 1);
    GemmArgs call = args;
    call.c_MN.data = c.data();
    call.scratch = Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(scratch.size())});
    table.run(call);
    return c;
  }
};

float element(const std::vector<char>& bytes, size_t i) {
  float x = 0;
  std::memcpy(&x, bytes.data() + 4 * i, 4);
  return x;
}

}  // namespace

TEST_CASE("the oneDNN path computes what the packed kernel computes, in every mode") {
  const cpu::Gemm packed, onednn(true);
  const int64_t m = 163, n = 131, k = 150;
  for (int flags = 0; flags < 12; ++flags) {
    const bool accumulate = flags / 4 == 1, bias = flags / 4 == 2;
    Call call(DType::f32, DType::f32, m, n, k, flags & 1, flags & 2, accumulate, bias);
    REQUIRE(onednn.uses_onednn(call.args));
    REQUIRE_FALSE(packed.uses_onednn(call.args));
    // Twice: the second call finds the prepared primitive in the table.
    const std::vector<char> want = call.run(packed), first = call.run(onednn), second = call.run(onednn);
    CHECK(first == second);
    // |a b| <= 1/4 a term: both sides' rounding, 2 * 4 sqrt(k) eps * k / 4, and the old c or the bias.
    const double tolerance = 8 * std::sqrt(150.0) * dtype_epsilon(DType::f32) * (150.0 / 4 + 1);
    double worst = 0;
    for (size_t i = 0; i < static_cast<size_t>(m * n); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(element(want, i)) - static_cast<double>(element(first, i))));
    }
    INFO("flags " << flags << ", worst difference " << worst << ", tolerance " << tolerance);
    CHECK(worst <= tolerance);
    CHECK(want != call.blocks[0]);
  }
}

TEST_CASE("small products and f16 stay with the packed kernel") {
  const cpu::Gemm onednn(true);
  CHECK_FALSE(onednn.uses_onednn(Call(DType::f32, DType::f32, 16, 16, 16, false, false, false, false).args));
  CHECK_FALSE(onednn.uses_onednn(Call(DType::f16, DType::f16, 256, 256, 256, false, true, false, false).args));
}

TEST_CASE("the packed GEMM gives the same bits for any number of threads and any split of rows or columns") {
  const cpu::Gemm gemm;
  const int before = omp_get_max_threads();
  // k spans three blocks, m more than one block of rows, n an odd tail.
  const int64_t m = 2100, n = 75, k = 600;
  Call call(DType::f32, DType::f32, m, n, k, false, true, false, true);
  omp_set_num_threads(1);
  const std::vector<char> want = call.run(gemm);
  for (const int threads : {2, 3, 5}) {
    omp_set_num_threads(threads);
    CHECK(call.run(gemm) == want);
  }
  omp_set_num_threads(before);
  const int64_t first = 1009, last = 1500;
  Call part(DType::f32, DType::f32, last - first, n, k, false, true, false, true);
  part.args.a = call.args.a.rows(first, last);
  part.args.b = call.args.b;
  part.args.bias_N = call.args.bias_N;
  const std::vector<char> rows = part.run(gemm);
  CHECK(std::memcmp(rows.data(), want.data() + first * n * 4, rows.size()) == 0);
}

TEST_CASE("the CPU GEMM's epilogues give the bits of the operations they stand for") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Call call(dtype, dtype, 19, 37, 65, true, false, false, true);
    const Tensor activated = call.make(dtype, {19, 37}), want = call.make(dtype, {19, 37});
    const Tensor bias_grad = call.make(DType::f32, {19}), want_grad = call.make(DType::f32, {19});
    std::memcpy(bias_grad.data, want_grad.data, want_grad.bytes());
    std::vector<char> scratch(ops->scratch_bytes(call.args) + 1);
    call.args.scratch = Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(scratch.size())});
    ops->gemm({}, call.args);
    for (const ActivationKind kind : {ActivationKind::gelu_tanh, ActivationKind::relu, ActivationKind::silu}) {
      ops->activation_forward({}, kind, want, call.args.c_MN);
      GemmArgs fused = call.args;
      fused.activated_MN = activated;
      fused.activation = kind;
      ops->gemm({}, fused);
      CHECK(std::memcmp(activated.data, want.data, want.bytes()) == 0);
    }
    ops->bias_backward({}, want_grad, call.args.a, {});
    call.args.bias_grad_M = bias_grad;
    ops->gemm({}, call.args);
    CHECK(std::memcmp(bias_grad.data, want_grad.data, want_grad.bytes()) == 0);
  }
}

TEST_CASE("a GEMM without room or of f64 is refused") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  Call call(DType::f32, DType::f32, 8, 8, 8, false, false, false, false);
  CHECK_THROWS_AS(ops->gemm(Stream{}, call.args), InternalError);
  Call wide(DType::f64, DType::f64, 8, 8, 8, false, false, false, false);
  std::vector<char> scratch(ops->scratch_bytes(wide.args));
  wide.args.scratch = Tensor(scratch.data(), DType::u8, {static_cast<int64_t>(scratch.size())});
  CHECK_THROWS_AS(ops->gemm(Stream{}, wide.args), InternalError);
}
