// LayerNorm and RMSNorm, forward and backward.
//
// Forward bound, D terms a row, d = x - mean, all in units of eps = kEps:
//   mean:  e_mean = kLambda sqrt(D) mean|x|
//   rstd:  relative e_rstd = kLambda sqrt(D), plus (eps e_mean rstd)^2, the second-order trace of the mean's error.
//          (A table that computes E[x^2] - mean^2 cancels and exceeds this when |mean| >> deviation: so it should.)
//   y:     |w| rstd (e_mean + 2|d|) + |w d rstd| (e_rstd + kLambda) + |b|
// Backward bound, with the statistics given, n = d rstd, g = dy w:
//   e_n = 2 (|x| + |mean|) rstd                       (also for n computed as x rstd - mean rstd)
//   e_g = kLambda sqrt(D) mean|g|;  e_gn = kLambda sqrt(D) mean|g n| + mean(|g| e_n)
//   dx:  rstd (kLambda (|g| + |n mean(g n)|) + e_g + |n| e_gn + e_n |mean(g n)|) + |dx| + |residual|
//   dw:  kLambda sqrt(T + 1) (|dw0| + sum|dy n|) + sum |dy| e_n;   db: kLambda sqrt(T + 1) (|db0| + sum|dy|)
#include <cmath>

#include "cases.h"
#include "core/base/error.h"
#include "kernels/reference/formulas.h"

namespace trident::cases {
namespace {

enum class Residual { none, separate, in_place };

struct Spec {
  NormKind kind;
  int64_t rows, width;
  DType dtype;
  bool bias;
  double mean;  ///< of x
  Residual residual = Residual::none;

  /// Large enough in half of the cases for a wrong eps to show beside a variance of one.
  float eps() const { return mean == 0 ? 1e-5f : 1e-3f; }
  bool centered() const { return kind == NormKind::layer_norm; }
};

std::string name_of(const char* direction, const Spec& s) {
  const char* residuals[] = {"", " residual", " residual=dx"};
  return build_string(s.centered() ? "layer_norm_" : "rms_norm_", direction, " ", s.rows, "x", s.width, " ",
                      dtype_name(s.dtype), s.bias ? " bias" : "", " mean ", s.mean,
                      residuals[static_cast<int>(s.residual)]);
}

double root(int64_t n) { return std::sqrt(static_cast<double>(n)); }

/// x, w and perhaps b.
std::vector<Operand> inputs_of(const Spec& s, Random& random) {
  std::vector<Operand> o;
  o.push_back({"x", Use::in, s.dtype, {s.rows, s.width}, random.normal(s.dtype, s.rows * s.width, 1, s.mean)});
  o.push_back({"w", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width, 0.5, 1)});
  return o;
}

Bounds forward_bounds(const Spec& s, const Oracle& oracle) {
  const Values &x = oracle.before("x"), &w = oracle.before("w"), &rstd = oracle.after("rstd");
  const auto rows = static_cast<size_t>(s.rows), width = static_cast<size_t>(s.width);
  const double n = static_cast<double>(s.width);
  Values y_bound(rows * width), mean_bound(rows, 0.0), rstd_bound(rows);
  for (size_t t = 0; t < rows; ++t) {
    const double mean = s.centered() ? oracle.after("mean")[t] : 0.0;
    double mean_abs = 0;
    for (size_t d = 0; d < width; ++d) mean_abs += std::abs(x[t * width + d]) / n;
    const double e_mean = s.centered() ? kLambda * root(s.width) * mean_abs : 0.0;
    const double e_rstd = kLambda * root(s.width) + kEps * e_mean * e_mean * rstd[t] * rstd[t];
    mean_bound[t] = kEps * e_mean;
    rstd_bound[t] = kEps * (e_rstd + kLambda) * rstd[t];
    for (size_t d = 0; d < width; ++d) {
      const double centered = std::abs(x[t * width + d] - mean), weight = std::abs(w[d]) * rstd[t];
      const double b = s.bias ? std::abs(oracle.before("b")[d]) : 0.0;
      y_bound[t * width + d] = kEps * (weight * (e_mean + 2 * centered) + weight * centered * (e_rstd + kLambda) + b);
    }
  }
  Bounds bounds{{"y", y_bound}, {"rstd", rstd_bound}};
  if (s.centered()) bounds["mean"] = mean_bound;
  return bounds;
}

Case forward_case(const Spec& s) {
  Case c;
  c.name = name_of("forward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o = inputs_of(s, random);
    if (s.bias) o.push_back({"b", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width)});
    o.push_back({"y", Use::out, s.dtype, {s.rows, s.width}, {}});
    o.push_back({"rstd", Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
    if (s.centered()) o.push_back({"mean", Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.norm_forward(t.stream(), {.kind = s.kind,
                                  .eps = s.eps(),
                                  .y_TD = t["y"],
                                  .mean_T = s.centered() ? t["mean"] : Tensor(),
                                  .rstd_T = t["rstd"],
                                  .x_TD = t["x"],
                                  .w_D = t["w"],
                                  .b_D = s.bias ? t["b"] : Tensor()});
  };
  c.bounds = [s](const Oracle& oracle) { return forward_bounds(s, oracle); };
  return c;
}

Bounds backward_bounds(const Spec& s, const Oracle& oracle) {
  const Values &x = oracle.before("x"), &w = oracle.before("w"), &dy = oracle.before("dy");
  const Values &rstd_T = oracle.before("rstd"), &dx = oracle.after("dx");
  const auto rows = static_cast<size_t>(s.rows), width = static_cast<size_t>(s.width);
  const double n = static_cast<double>(s.width), sum_rows = kLambda * root(s.rows + 1);
  Values dx_bound(rows * width), dw_bound = magnitudes(oracle.before("dw"));
  Values db_bound = s.bias ? magnitudes(oracle.before("db")) : Values(width, 0.0);
  for (double& v : dw_bound) v *= sum_rows;
  for (double& v : db_bound) v *= sum_rows;
  for (size_t t = 0; t < rows; ++t) {
    const double mean = s.centered() ? oracle.before("mean")[t] : 0.0, rstd = rstd_T[t];
    double abs_g = 0, abs_gn = 0, mean_gn = 0, g_e_n = 0;
    for (size_t d = 0; d < width; ++d) {
      const double xi = x[t * width + d], g = dy[t * width + d] * w[d], normal = (xi - mean) * rstd;
      const double e_n = 2 * (std::abs(xi) + std::abs(mean)) * rstd;
      abs_g += std::abs(g) / n;
      abs_gn += std::abs(g * normal) / n;
      mean_gn += g * normal / n;
      g_e_n += std::abs(g) * e_n / n;
      dw_bound[d] += std::abs(dy[t * width + d]) * (sum_rows * std::abs(normal) + e_n);
      db_bound[d] += std::abs(dy[t * width + d]) * sum_rows;
    }
    const double e_g = s.centered() ? kLambda * root(s.width) * abs_g : 0.0;
    const double e_gn = kLambda * root(s.width) * abs_gn + g_e_n;
    for (size_t d = 0; d < width; ++d) {
      const size_t at = t * width + d;
      const double normal = std::abs(x[at] - mean) * rstd, e_n = 2 * (std::abs(x[at]) + std::abs(mean)) * rstd;
      const double residual = s.residual == Residual::none       ? 0.0
                              : s.residual == Residual::in_place ? oracle.before("dx")[at]
                                                                 : oracle.before("residual")[at];
      const double inner = kLambda * (std::abs(dy[at] * w[d]) + std::abs(normal * mean_gn)) + e_g + normal * e_gn +
                           e_n * std::abs(mean_gn);
      dx_bound[at] = rstd * inner + std::abs(dx[at]) + std::abs(residual);
    }
  }
  for (Values* bound : {&dx_bound, &dw_bound, &db_bound}) {
    for (double& v : *bound) v *= kEps;
  }
  Bounds bounds{{"dx", dx_bound}, {"dw", dw_bound}};
  if (s.bias) bounds["db"] = db_bound;
  return bounds;
}

/// The rows' statistics, as the forward pass would have stored them.
void push_statistics(const Spec& s, std::vector<Operand>& o) {
  const Values x = o[0].values;
  const auto width = static_cast<size_t>(s.width);
  const DType dtype = statistics_dtype(s.dtype);
  const Values ones(width, 1.0);
  Values mean, rstd, y(width);
  for (size_t t = 0; t < static_cast<size_t>(s.rows); ++t) {
    const auto stats = reference::norm_row<double>(y, std::span(x).subspan(t * width, width), ones, {},
                                                   static_cast<double>(s.eps()), s.centered());
    mean.push_back(round_to(dtype, stats.mean));
    rstd.push_back(round_to(dtype, stats.rstd));
  }
  o.push_back({"rstd", Use::in, dtype, {s.rows}, rstd});
  if (s.centered()) o.push_back({"mean", Use::in, dtype, {s.rows}, mean});
}

Case backward_case(const Spec& s) {
  Case c;
  c.name = name_of("backward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    const DType grad = statistics_dtype(s.dtype);
    const int64_t n = s.rows * s.width;
    std::vector<Operand> o = inputs_of(s, random);
    push_statistics(s, o);
    o.push_back({"dy", Use::in, s.dtype, {s.rows, s.width}, random.normal(s.dtype, n)});
    o.push_back({"dw", Use::inout, grad, {s.width}, random.normal(grad, s.width)});
    if (s.bias) o.push_back({"db", Use::inout, grad, {s.width}, random.normal(grad, s.width)});
    if (s.residual == Residual::separate) {
      o.push_back({"residual", Use::in, s.dtype, {s.rows, s.width}, random.normal(s.dtype, n)});
    }
    if (s.residual == Residual::in_place) {
      o.push_back({"dx", Use::inout, s.dtype, {s.rows, s.width}, random.normal(s.dtype, n)});
    } else {
      o.push_back({"dx", Use::out, s.dtype, {s.rows, s.width}, {}});
    }
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    NormBackwardArgs args;
    args.forward.kind = s.kind;
    args.forward.eps = s.eps();
    args.forward.rstd_T = t["rstd"];
    if (s.centered()) args.forward.mean_T = t["mean"];
    args.forward.x_TD = t["x"];
    args.forward.w_D = t["w"];
    args.dx_TD = t["dx"];
    args.dy_TD = t["dy"];
    if (s.residual != Residual::none) args.residual_TD = t[s.residual == Residual::in_place ? "dx" : "residual"];
    args.dw_D = t["dw"];
    if (s.bias) args.db_D = t["db"];
    args.scratch = t.scratch(ops.scratch_bytes(args));
    ops.norm_backward(t.stream(), args);
  };
  c.bounds = [s](const Oracle& oracle) { return backward_bounds(s, oracle); };
  return c;
}

}  // namespace

std::vector<Case> norm_cases() {
  constexpr int64_t kShapes[][2] = {{1, 1},  {3, 2},  {5, 3},    {2, 7},   {4, 8},    {3, 16},
                                    {6, 33}, {5, 64}, {17, 130}, {3, 257}, {130, 65}, {9, 768}};
  std::vector<Case> list;
  for (const auto& shape : kShapes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const double mean : {0.0, 8.0}) {
        for (const bool bias : {false, true}) {
          list.push_back(forward_case({NormKind::layer_norm, shape[0], shape[1], dtype, bias, mean}));
        }
        list.push_back(forward_case({NormKind::rms_norm, shape[0], shape[1], dtype, false, mean}));
        for (const Residual residual : {Residual::none, Residual::separate, Residual::in_place}) {
          const bool bias = residual != Residual::none;
          list.push_back(backward_case({NormKind::layer_norm, shape[0], shape[1], dtype, bias, mean, residual}));
          list.push_back(backward_case({NormKind::rms_norm, shape[0], shape[1], dtype, false, mean, residual}));
        }
      }
    }
  }
  return list;
}

}  // namespace trident::cases
