// GEMM: all four transposes, accumulate, bias, 16-bit inputs into f32, activations and bias gradients.
//
// Bound: an element is k products and at most two more terms (bias or the old c), summed in f32:
//   |error| <= kLambda * sqrt(k + 1) * eps * (sum_k |a_mk b_kn| + |c| + |bias|).
// The products of two 16-bit numbers are exact in f32; those of two f32 are one more rounding, inside kLambda.
// An activation of c, rounded or not, carries on c's error and rounding with a slope of at most 1.13 (gelu's), and adds
// its own (cases_pointwise.cpp). A library may compute the gelu of 16-bit results with the tanh instruction, whose
// relative error is 2^-11 (PTX ISA, tanh.approx.f32): 2^-12 |x| more; f32 results may not.
// Bias gradient, a sum of k rows of dy onto the old one: kLambda sqrt(k + 1) eps (|db0| + sum|dy|).
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

enum class Mode { plain, accumulate, bias, gelu, bias_gelu, bias_relu, bias_silu, bias_grad };

bool has_bias(Mode mode) {
  return mode == Mode::bias || mode == Mode::bias_gelu || mode == Mode::bias_relu || mode == Mode::bias_silu;
}
bool has_activation(Mode mode) { return mode >= Mode::gelu && mode <= Mode::bias_silu; }
bool accumulates(Mode mode) { return mode == Mode::accumulate || mode == Mode::bias_grad; }

ActivationKind activation_of(Mode mode) {
  if (mode == Mode::bias_relu) return ActivationKind::relu;
  return mode == Mode::bias_silu ? ActivationKind::silu : ActivationKind::gelu_tanh;
}

struct Spec {
  int64_t m, n, k;
  DType dtype, out;
  bool transpose_a, transpose_b;
  Mode mode;
};

std::string name_of(const Spec& s) {
  const char* modes[] = {"", " accumulate", " bias", " gelu", " bias gelu", " bias relu", " bias silu", " bias_grad"};
  return build_string("gemm ", s.m, "x", s.n, "x", s.k, " ", dtype_name(s.dtype), "->", dtype_name(s.out), " ",
                      s.transpose_a ? "T" : "N", s.transpose_b ? "T" : "N", modes[static_cast<int>(s.mode)]);
}

Values product_bound(const Spec& s, const Oracle& oracle) {
  const Values &a = oracle.before("a"), &b = oracle.before("b");
  const auto m = static_cast<size_t>(s.m), n = static_cast<size_t>(s.n), k = static_cast<size_t>(s.k);
  Values bound = accumulates(s.mode) ? magnitudes(oracle.before("c")) : Values(m * n, 0.0);
  for (size_t i = 0; i < m; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double& x = bound[i * n + j];
      for (size_t l = 0; l < k; ++l) {
        x += std::abs(a[s.transpose_a ? l * m + i : i * k + l] * b[s.transpose_b ? j * k + l : l * n + j]);
      }
      if (has_bias(s.mode)) x += std::abs(oracle.before("bias")[j]);
      x *= kLambda * std::sqrt(static_cast<double>(s.k + 1)) * kEps;
    }
  }
  return bound;
}

Values activated_bound(const Spec& s, const Values& c, const Values& c_bound) {
  const bool exact = activation_of(s.mode) == ActivationKind::relu;
  const bool approximate = activation_of(s.mode) == ActivationKind::gelu_tanh && s.dtype != DType::f32;
  Values bound(c.size());
  for (size_t i = 0; i < c.size(); ++i) {
    bound[i] = 1.13 * (c_bound[i] + dtype_epsilon(s.out) * std::abs(c[i]));
    if (!exact) bound[i] += kLambda * kEps * std::abs(c[i]);
    if (approximate) bound[i] += 0x1p-12 * std::abs(c[i]);
  }
  return bound;
}

Values bias_grad_bound(const Spec& s, const Oracle& oracle) {
  const Values& dy = oracle.before("a");
  Values bound = magnitudes(oracle.before("bias_grad"));
  for (size_t i = 0; i < dy.size(); ++i) bound[i % bound.size()] += std::abs(dy[i]);
  for (double& x : bound) x *= kLambda * std::sqrt(static_cast<double>(s.k + 1)) * kEps;
  return bound;
}

Bounds bounds_of(const Spec& s, const Oracle& oracle) {
  Bounds bounds{{"c", product_bound(s, oracle)}};
  if (has_activation(s.mode)) bounds["activated"] = activated_bound(s, oracle.after("c"), bounds["c"]);
  if (s.mode == Mode::bias_grad) bounds["bias_grad"] = bias_grad_bound(s, oracle);
  return bounds;
}

std::vector<Operand> operands_of(const Spec& s, uint64_t seed) {
  Random random(seed);
  std::vector<Operand> o;
  o.push_back({"a", Use::in, s.dtype, s.transpose_a ? std::vector{s.k, s.m} : std::vector{s.m, s.k},
               random.normal(s.dtype, s.m * s.k)});
  o.push_back({"b", Use::in, s.dtype, s.transpose_b ? std::vector{s.n, s.k} : std::vector{s.k, s.n},
               random.normal(s.dtype, s.k * s.n)});
  if (accumulates(s.mode)) {
    o.push_back({"c", Use::inout, s.out, {s.m, s.n}, random.normal(s.out, s.m * s.n)});
  } else {
    o.push_back({"c", Use::out, s.out, {s.m, s.n}, {}});
  }
  if (has_bias(s.mode)) o.push_back({"bias", Use::in, s.dtype, {s.n}, random.normal(s.dtype, s.n)});
  if (has_activation(s.mode)) o.push_back({"activated", Use::out, s.out, {s.m, s.n}, {}});
  if (s.mode == Mode::bias_grad) {
    o.push_back({"bias_grad", Use::inout, DType::f32, {s.m}, random.normal(DType::f32, s.m)});
  }
  return o;
}

Case make_case(const Spec& s) {
  Case c;
  c.name = name_of(s);
  c.operands = [s, seed = seed_of(c.name)] { return operands_of(s, seed); };
  c.run = [s](const Ops& ops, Arguments& t) {
    GemmArgs args{.c_MN = t["c"],
                  .a = t["a"],
                  .b = t["b"],
                  .transpose_a = s.transpose_a,
                  .transpose_b = s.transpose_b,
                  .accumulate = accumulates(s.mode),
                  .bias_N = has_bias(s.mode) ? t["bias"] : Tensor(),
                  .activated_MN = has_activation(s.mode) ? t["activated"] : Tensor(),
                  .activation = activation_of(s.mode),
                  .bias_grad_M = s.mode == Mode::bias_grad ? t["bias_grad"] : Tensor(),
                  .scratch = {}};
    args.scratch = t.scratch(ops.scratch_bytes(args));
    ops.gemm(t.stream(), args);
  };
  c.bounds = [s](const Oracle& oracle) { return bounds_of(s, oracle); };
  return c;
}

}  // namespace

std::vector<Case> gemm_cases() {
  constexpr int64_t kShapes[][3] = {{1, 1, 1},    {1, 1, 7},     {1, 33, 5},    {3, 5, 2},      {7, 9, 33},
                                    {16, 16, 16}, {17, 31, 65},  {64, 48, 96},  {33, 130, 100}, {5, 257, 64},
                                    {130, 8, 1},  {66, 70, 300}, {72, 80, 264}, {0, 8, 16}};
  constexpr DType kDTypes[][2] = {{DType::f32, DType::f32},
                                  {DType::bf16, DType::bf16},
                                  {DType::bf16, DType::f32},
                                  {DType::f16, DType::f16},
                                  {DType::f16, DType::f32}};
  std::vector<Case> list;
  for (const auto& shape : kShapes) {
    for (const auto& dtypes : kDTypes) {
      const auto add = [&](bool transpose_a, bool transpose_b, Mode mode) {
        list.push_back(make_case({shape[0], shape[1], shape[2], dtypes[0], dtypes[1], transpose_a, transpose_b, mode}));
      };
      for (const int transposes : {0, 1, 2, 3}) {
        for (const Mode mode : {Mode::plain, Mode::accumulate, Mode::bias}) {
          add((transposes & 2) != 0, (transposes & 1) != 0, mode);
        }
      }
      // The layouts of a linear layer's forward and of its weight's gradient.
      add(true, false, Mode::bias_grad);
      if (dtypes[0] != dtypes[1]) continue;
      for (const Mode mode : {Mode::gelu, Mode::bias_gelu, Mode::bias_relu, Mode::bias_silu}) add(false, true, mode);
    }
  }
  return list;
}

}  // namespace trident::cases
