// GEMM: all four transposes, accumulate, bias, 16-bit inputs into f32.
//
// Bound: an element is k products and at most two more terms (bias or the old c), summed in f32:
//   |error| <= kLambda * sqrt(k + 1) * eps * (sum_k |a_mk b_kn| + |c| + |bias|).
// The products of two 16-bit numbers are exact in f32; those of two f32 are one more rounding, inside kLambda.
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

enum class Mode { plain, accumulate, bias };

struct Spec {
  int64_t m, n, k;
  DType dtype, out;
  bool transpose_a, transpose_b;
  Mode mode;
};

std::string name_of(const Spec& s) {
  const char* modes[] = {"", " accumulate", " bias"};
  return build_string("gemm ", s.m, "x", s.n, "x", s.k, " ", dtype_name(s.dtype), "->", dtype_name(s.out), " ",
                      s.transpose_a ? "T" : "N", s.transpose_b ? "T" : "N", modes[static_cast<int>(s.mode)]);
}

Bounds bounds_of(const Spec& s, const Oracle& oracle) {
  const Values &a = oracle.before("a"), &b = oracle.before("b");
  const auto m = static_cast<size_t>(s.m), n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k);
  Values bound = s.mode == Mode::accumulate ? magnitudes(oracle.before("c")) : Values(m * n, 0.0);
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double& x = bound[i * n + j];
      for (size_t l = 0; l < k; ++l) {
        x += std::abs(a[s.transpose_a ? l * m + i : i * k + l] * b[s.transpose_b ? j * k + l : l * n + j]);
      }
      if (s.mode == Mode::bias) x += std::abs(oracle.before("bias")[j]);
      x *= kLambda * std::sqrt(static_cast<double>(s.k + 1)) * kEps;
    }
  }
  return {{"c", bound}};
}

Case make_case(const Spec& s) {
  Case c;
  c.name = name_of(s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"a", Use::in, s.dtype, s.transpose_a ? std::vector{s.k, s.m} : std::vector{s.m, s.k},
                 random.normal(s.dtype, s.m * s.k)});
    o.push_back({"b", Use::in, s.dtype, s.transpose_b ? std::vector{s.n, s.k} : std::vector{s.k, s.n},
                 random.normal(s.dtype, s.k * s.n)});
    if (s.mode == Mode::accumulate) {
      o.push_back({"c", Use::inout, s.out, {s.m, s.n}, random.normal(s.out, s.m * s.n)});
    } else {
      o.push_back({"c", Use::out, s.out, {s.m, s.n}, {}});
    }
    if (s.mode == Mode::bias) o.push_back({"bias", Use::in, s.dtype, {s.n}, random.normal(s.dtype, s.n)});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    GemmArgs args{.c_MN = t["c"],
                  .a = t["a"],
                  .b = t["b"],
                  .transpose_a = s.transpose_a,
                  .transpose_b = s.transpose_b,
                  .accumulate = s.mode == Mode::accumulate,
                  .bias_N = s.mode == Mode::bias ? t["bias"] : Tensor(),
                  .scratch = {}};
    args.scratch = t.scratch(ops.scratch_bytes(args));
    ops.gemm(t.stream(), args);
  };
  c.bounds = [s](const Oracle& oracle) { return bounds_of(s, oracle); };
  return c;
}

}  // namespace

std::vector<Case> gemm_cases() {
  constexpr int64_t kShapes[][3] = {{1, 1, 1},      {1, 1, 7},    {1, 33, 5},   {3, 5, 2},
                                    {7, 9, 33},     {16, 16, 16}, {17, 31, 65}, {64, 48, 96},
                                    {33, 130, 100}, {5, 257, 64}, {130, 8, 1},  {66, 70, 300}};
  constexpr DType kDTypes[][2] = {{DType::f32, DType::f32},
                                  {DType::bf16, DType::bf16},
                                  {DType::bf16, DType::f32},
                                  {DType::f16, DType::f16},
                                  {DType::f16, DType::f32}};
  std::vector<Case> list;
  for (const auto& shape : kShapes) {
    for (const auto& dtypes : kDTypes) {
      for (const int transposes : {0, 1, 2, 3}) {
        for (const Mode mode : {Mode::plain, Mode::accumulate, Mode::bias}) {
          list.push_back(make_case({shape[0], shape[1], shape[2], dtypes[0], dtypes[1], (transposes & 2) != 0,
                                    (transposes & 1) != 0, mode}));
        }
      }
    }
  }
  return list;
}

}  // namespace trident::cases
