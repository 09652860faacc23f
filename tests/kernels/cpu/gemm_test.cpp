// The CPU GEMM beyond the case list: the oneDNN path, independence of threads and of how rows are split, refusals.
#include <omp.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/gemm_amx.h"
#include "kernels/cpu/gemm_packed.h"
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

double element(const std::vector<char>& bytes, DType dtype, size_t i) {
  if (dtype == DType::bf16) {
    bf16 x;
    std::memcpy(static_cast<void*>(&x), bytes.data() + 2 * i, 2);
    return static_cast<double>(static_cast<float>(x));
  }
  float x = 0;
  std::memcpy(&x, bytes.data() + 4 * i, 4);
  return static_cast<double>(x);
}

struct OnTiles {
  size_t scratch_bytes(const GemmArgs& args) const { return cpu::gemm_amx_scratch_bytes(args); }
  void run(const GemmArgs& args) const { cpu::gemm_amx(args); }
};
struct Packed {
  size_t scratch_bytes(const GemmArgs& args) const { return cpu::gemm_packed_scratch_bytes(args); }
  void run(const GemmArgs& args) const { cpu::gemm_packed(args); }
};

/// Checks |want - got| for operands in [-1/2, 1/2), where a sum over k has 4 sqrt(k) eps k / 4 of rounding on
/// either side, and each side rounds a bf16 result once.
void check_close(const Call& call, const std::vector<char>& want, const std::vector<char>& got) {
  const DType dtype = call.args.c_MN.dtype;
  const auto k = static_cast<double>(call.args.transpose_a ? call.args.a.dim[0] : call.args.a.dim[1]);
  const double sum_error = 8 * std::sqrt(k) * dtype_epsilon(DType::f32) * (k / 4 + 1);
  double worst = 0;  // as a share of its tolerance
  size_t where = 0;
  for (size_t i = 0; i < static_cast<size_t>(call.args.c_MN.numel()); ++i) {
    const double x = element(want, dtype, i), y = element(got, dtype, i);
    const double share =
        std::abs(x - y) / (sum_error + (dtype == DType::bf16 ? 2 * dtype_epsilon(dtype) * std::abs(x) : 0));
    if (!(share <= worst)) {
      worst = share;
      where = i;
    }
  }
  INFO("element " << where << ": want " << element(want, dtype, where) << ", got " << element(got, dtype, where) << ", "
                  << worst << " of the tolerance");
  CHECK(worst <= 1);
  CHECK(want != call.blocks[0]);
}

}  // namespace

TEST_CASE("the oneDNN path computes what the packed kernel computes, in every mode") {
  const cpu::Gemm onednn(true);
  const int64_t m = 163, n = 131, k = 150;
  for (int flags = 0; flags < 12; ++flags) {
    const bool accumulate = flags / 4 == 1, bias = flags / 4 == 2;
    Call call(DType::f32, DType::f32, m, n, k, flags & 1, flags & 2, accumulate, bias);
    REQUIRE(onednn.uses_onednn(call.args));
    // Twice: the second call finds the prepared primitive in the table.
    const std::vector<char> want = call.run(Packed{}), first = call.run(onednn), second = call.run(onednn);
    CHECK(first == second);
    check_close(call, want, first);
  }
}

TEST_CASE("the GEMM on tiles computes what the packed kernel computes, in every layout and at every edge") {
  struct Size {
    int64_t m, n, k;
  };
  // Fewer than a tile; tails of lines and of k, blocks of k; more than one block on either side; more lines, and more
  // of k, than are packed at a time.
  const Size sizes[] = {{16, 16, 1},    {163, 131, 150}, {45, 900, 601},  {900, 45, 601},
                        {49, 70, 4500}, {33, 40, 4100},  {4133, 4101, 40}};
  for (const Size& size : sizes) {
    const bool large = size.m * size.n * size.k > int64_t{1} << 28;
    for (int flags = 0; flags < (large ? 8 : 24); ++flags) {
      const bool f32 = large ? flags >= 4 : flags >= 16;
      const bool narrow = !f32 && flags & 4, third = f32 ? flags & 4 : flags & 8;
      const DType c = narrow ? DType::bf16 : DType::f32;
      Call call(f32 ? DType::f32 : DType::bf16, c, size.m, size.n, size.k, flags & 1, flags & 2, third && !narrow,
                third && narrow);
      INFO("m " << size.m << ", n " << size.n << ", k " << size.k << ", flags " << flags);
      if (!cpu::gemm_amx_takes(call.args)) {
        WARN("not run: this build or this processor has no AMX");
        return;
      }
      check_close(call, call.run(Packed{}), call.run(OnTiles{}));
    }
  }
  CHECK_FALSE(cpu::gemm_amx_takes(Call(DType::bf16, DType::bf16, 15, 64, 64, false, true, false, false).args));
  CHECK_FALSE(cpu::gemm_amx_takes(Call(DType::f16, DType::f16, 64, 64, 64, false, true, false, false).args));
}

TEST_CASE("a product of f32 on tiles errs like one of fused multiply-adds") {
  // Against a double sum. Positive operands: nothing cancels, so the errors of the sums show.
  const int64_t m = 96, n = 64, k = 3000;
  Call call(DType::f32, DType::f32, m, n, k, false, true, false, false);
  if (!cpu::gemm_amx_takes(call.args)) {
    WARN("not run: this build or this processor has no AMX");
    return;
  }
  float *a = call.args.a.as<float>(), *b = call.args.b.as<float>();
  for (int64_t i = 0; i < m * k; ++i) a[i] = std::abs(a[i]) + 0.1f;
  for (int64_t i = 0; i < n * k; ++i) b[i] = std::abs(b[i]) + 0.1f;
  const std::vector<char> packed = call.run(Packed{}), tiles = call.run(OnTiles{});
  double tiles_error = 0, packed_error = 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double exact = 0;
      for (int64_t p = 0; p < k; ++p) exact += static_cast<double>(a[i * k + p]) * static_cast<double>(b[j * k + p]);
      const auto at = static_cast<size_t>(i * n + j);
      tiles_error += std::pow(element(tiles, DType::f32, at) / exact - 1, 2);
      packed_error += std::pow(element(packed, DType::f32, at) / exact - 1, 2);
    }
  }
  const double tiles_rms = std::sqrt(tiles_error / (m * n)), packed_rms = std::sqrt(packed_error / (m * n));
  INFO("relative error, root mean square: on tiles " << tiles_rms << ", packed " << packed_rms);
  // Two parts instead of three would err by 2^-17, a hundred times as much.
  CHECK(tiles_rms < 1.5 * packed_rms);
}

TEST_CASE("small products and f16 stay with the packed kernel") {
  const cpu::Gemm onednn(true);
  CHECK_FALSE(onednn.uses_onednn(Call(DType::f32, DType::f32, 16, 16, 16, false, false, false, false).args));
  CHECK_FALSE(onednn.uses_onednn(Call(DType::f16, DType::f16, 256, 256, 256, false, true, false, false).args));
}

TEST_CASE("our GEMMs give the same bits for any number of threads and any split of rows or columns") {
  const cpu::Gemm gemm;
  const int before = omp_get_max_threads();
  // k spans three blocks, or two packings on tiles; m more than one block of rows; n has an odd tail.
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t m = 2100, n = 75, k = dtype == DType::f32 ? 600 : 4400;
    Call call(dtype, DType::f32, m, n, k, false, true, false, true);
    omp_set_num_threads(1);
    const std::vector<char> want = call.run(gemm);
    for (const int threads : {2, 3, 5}) {
      omp_set_num_threads(threads);
      CHECK(call.run(gemm) == want);
    }
    omp_set_num_threads(before);
    const int64_t first = 1009, last = 1500;
    Call part(dtype, DType::f32, last - first, n, k, false, true, false, true);
    part.args.a = call.args.a.rows(first, last);
    part.args.b = call.args.b;
    part.args.bias_N = call.args.bias_N;
    const std::vector<char> rows = part.run(gemm);
    CHECK(std::memcmp(rows.data(), want.data() + first * n * 4, rows.size()) == 0);
  }
}

TEST_CASE("the CPU GEMM's epilogues give the bits of the operations they stand for") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  struct Size {
    DType dtype;
    int64_t m, n, k;
  };
  // Where there are AMX tiles the last two run on them, with the summed operand on either side.
  for (const auto& [dtype, m, n, k] : {Size{DType::f32, 19, 37, 65}, Size{DType::bf16, 19, 37, 65},
                                       Size{DType::bf16, 149, 300, 1121}, Size{DType::bf16, 430, 37, 1121}}) {
    Call call(dtype, dtype, m, n, k, true, false, false, true);
    const Tensor activated = call.make(dtype, {m, n}), want = call.make(dtype, {m, n});
    const Tensor bias_grad = call.make(DType::f32, {m}), want_grad = call.make(DType::f32, {m});
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
