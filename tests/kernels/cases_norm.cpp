// LayerNorm and RMSNorm, forward and backward.
//
// Forward bound, D terms a row, d = x - mean, all in units of eps = kEps:
//   mean:  e_mean = kLambda sqrt(D) mean|x|
//   rstd:  relative e_rstd = kLambda sqrt(D), plus (eps e_mean rstd)^2, the second-order trace of the mean's error.
//          (A table that computes E[x^2] - mean^2 cancels and exceeds this when |mean| >> deviation: so it should.)
//   y:     |w| rstd (e_mean + 2|d|) + |w d rstd| (e_rstd + kLambda) + |b|
// A residual that joins has numbers whose x every dtype represents (few bits, p 0 or 1/2): x must be exact, and the
// bounds above hold for the rest. That the norm is of the x that was rounded shows on other numbers: the joined pass
// against dropout_add and norm_forward of the same table, bit for bit.
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

/// x = stream + dropout(addend), written to `output`: "x", or "stream" or "addend" in place.
struct Join {
  float p;
  bool stream;
  const char* output;
};

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

Bounds forward_bounds(const Spec& s, const Values& x, const Oracle& oracle) {
  const Values &w = oracle.before("w"), &rstd = oracle.after("rstd");
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

/// What forward writes, named with a suffix: y, rstd, and mean.
void push_outputs(const Spec& s, const std::string& suffix, std::vector<Operand>& o) {
  o.push_back({"y" + suffix, Use::out, s.dtype, {s.rows, s.width}, {}});
  o.push_back({"rstd" + suffix, Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
  if (s.centered()) o.push_back({"mean" + suffix, Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
}

NormArgs forward_args(const Spec& s, const Arguments& t, const std::string& suffix, Tensor x_TD) {
  return {.kind = s.kind,
          .eps = s.eps(),
          .y_TD = t["y" + suffix],
          .mean_T = s.centered() ? t["mean" + suffix] : Tensor(),
          .rstd_T = t["rstd" + suffix],
          .x_TD = x_TD,
          .w_D = t["w"],
          .b_D = s.bias ? t["b"] : Tensor()};
}

Case forward_case(const Spec& s) {
  Case c;
  c.name = name_of("forward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o = inputs_of(s, random);
    if (s.bias) o.push_back({"b", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width)});
    push_outputs(s, "", o);
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) { ops.norm_forward(t.stream(), forward_args(s, t, "", t["x"])); };
  c.bounds = [s](const Oracle& oracle) { return forward_bounds(s, oracle.before("x"), oracle); };
  return c;
}

DropoutSpec dropout_of(const Spec& s, float p) {
  return {.p = p, .key = {77, 5, random_purpose("joined norm case")}, .first_row = 2 * s.rows + 1};
}

/// Multiples of 1/4 in [mean - 4, mean + 4).
Values quarters(Random& random, int64_t n, double mean) {
  Values values = random.integers(n, -16, 16);
  for (double& v : values) v = v / 4 + mean;
  return values;
}

Case joined_case(const Spec& s, const Join& join) {
  Case c;
  const std::string output = join.output;
  c.name = build_string(name_of("joined", s), " p ", join.p, join.stream ? "" : " without stream",
                        output == "x" ? "" : " in place of " + output);
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    const int64_t n = s.rows * s.width;
    const auto use = [&](const char* name) { return output == name ? Use::inout : Use::in; };
    if (join.stream) {
      o.push_back({"stream", use("stream"), s.dtype, {s.rows, s.width}, quarters(random, n, s.mean)});
    }
    o.push_back({"addend", use("addend"), s.dtype, {s.rows, s.width}, quarters(random, n, 0)});
    o.push_back({"w", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width, 0.5, 1)});
    if (s.bias) o.push_back({"b", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width)});
    if (output == "x") o.push_back({"x", Use::out, s.dtype, {s.rows, s.width}, {}});
    push_outputs(s, "", o);
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    NormArgs args = forward_args(s, t, "", t[output]);
    if (join.stream) args.stream_TD = t["stream"];
    args.addend_TD = t["addend"];
    args.drop = dropout_of(s, join.p);
    ops.norm_forward(t.stream(), args);
  };
  c.bounds = [=](const Oracle& oracle) { return forward_bounds(s, oracle.after(output), oracle); };
  return c;
}

/// The joined pass less dropout_add and norm_forward on the same table: every output must be exactly 0.
Case joined_difference_case(const Spec& s, float p, bool stream) {
  Case c;
  c.name = build_string(name_of("joined", s), " p ", p, stream ? "" : " without stream", " = dropout_add, norm");
  c.one_alignment = true;
  c.operands = [=, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    const std::vector<int64_t> shape{s.rows, s.width};
    const int64_t n = s.rows * s.width;
    if (stream) o.push_back({"stream", Use::in, s.dtype, shape, random.normal(s.dtype, n, 1, s.mean)});
    o.push_back({"addend", Use::in, s.dtype, shape, random.normal(s.dtype, n)});
    o.push_back({"w", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width, 0.5, 1)});
    if (s.bias) o.push_back({"b", Use::in, s.dtype, {s.width}, random.normal(s.dtype, s.width)});
    for (const char* pass : {" joined", " apart"}) {
      o.push_back({build_string("x", pass), Use::out, s.dtype, shape, {}});
      push_outputs(s, pass, o);
    }
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    NormArgs args = forward_args(s, t, " joined", t["x joined"]);
    const Tensor stream_TD = stream ? t["stream"] : Tensor();
    args.stream_TD = stream_TD;
    args.addend_TD = t["addend"];
    args.drop = dropout_of(s, p);
    ops.norm_forward(t.stream(), args);
    ops.dropout_add(t.stream(), t["x apart"], stream_TD, t["addend"], args.drop);
    ops.norm_forward(t.stream(), forward_args(s, t, " apart", t["x apart"]));
    for (const char* name : {"x", "y", "rstd", "mean"}) {
      if (!s.centered() && name == std::string("mean")) continue;
      const Tensor joined = t[build_string(name, " joined")], apart = t[build_string(name, " apart")];
      ops.scale(t.stream(), apart, apart, -1);
      ops.add(t.stream(), joined, apart);
      ops.scale(t.stream(), apart, apart, 0);
    }
  };
  c.bounds = [](const Oracle&) { return Bounds{}; };
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

/// Every mode of forward and backward on one shape.
void add_cases(std::vector<Case>& list, int64_t rows, int64_t width, DType dtype, double mean) {
  for (const bool bias : {false, true}) {
    list.push_back(forward_case({NormKind::layer_norm, rows, width, dtype, bias, mean}));
  }
  list.push_back(forward_case({NormKind::rms_norm, rows, width, dtype, false, mean}));
  for (const Residual residual : {Residual::none, Residual::separate, Residual::in_place}) {
    const bool bias = residual != Residual::none;
    list.push_back(backward_case({NormKind::layer_norm, rows, width, dtype, bias, mean, residual}));
    list.push_back(backward_case({NormKind::rms_norm, rows, width, dtype, false, mean, residual}));
  }
}

void add_joined_cases(std::vector<Case>& list, int64_t rows, int64_t width, DType dtype) {
  const Spec layer{NormKind::layer_norm, rows, width, dtype, true, 8},
      rms{NormKind::rms_norm, rows, width, dtype, false, 0};
  for (const float p : {0.0f, 0.5f}) {
    for (const char* output : {"x", "stream", "addend"}) list.push_back(joined_case(layer, {p, true, output}));
    list.push_back(joined_case(layer, {p, false, "x"}));
    list.push_back(joined_case(rms, {p, true, "stream"}));
    list.push_back(joined_case(rms, {p, false, "addend"}));
  }
  for (const float p : {0.0f, 0.1f}) {
    list.push_back(joined_difference_case(layer, p, true));
    list.push_back(joined_difference_case(rms, p, true));
  }
  list.push_back(joined_difference_case(layer, 0.1f, false));
}

}  // namespace

std::vector<Case> norm_cases() {
  constexpr int64_t kShapes[][2] = {{1, 1},  {3, 2},    {5, 3},   {2, 7},    {4, 8},   {3, 16}, {6, 33},
                                    {5, 64}, {17, 130}, {3, 257}, {130, 65}, {9, 768}, {0, 8}};
  // More rows than partial sums are added up side by side; each length at which a table may change its plan.
  constexpr int64_t kLong[][2] = {{300, 72}, {3, 1048}, {2, 5128}, {2, 8200}, {2, 12296}, {1, 16392}};
  constexpr int64_t kJoined[][2] = {{1, 1}, {5, 3}, {4, 8}, {6, 33}, {17, 130}, {9, 768}, {2, 1048}};
  std::vector<Case> list;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto& shape : kShapes) {
      for (const double mean : {0.0, 8.0}) add_cases(list, shape[0], shape[1], dtype, mean);
    }
    for (const auto& shape : kLong) add_cases(list, shape[0], shape[1], dtype, 8.0);
    for (const auto& shape : kJoined) add_joined_cases(list, shape[0], shape[1], dtype);
    list.push_back(joined_case({NormKind::layer_norm, 1, 16392, dtype, true, 8}, {0.5f, true, "stream"}));
    list.push_back(joined_case({NormKind::layer_norm, 1, 8200, dtype, true, 8}, {0.5f, true, "stream"}));
  }
  return list;
}

}  // namespace trident::cases
