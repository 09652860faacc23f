// The three passes of softmax cross-entropy: padding columns (filled with numbers that would win every maximum),
// ignored targets, targets on other ranks, a rank without any valid column.
//
// Bound (eps = kEps, d = logit - max): the maximum is exact. A term exp(d) errs by kLambda eps (1 + |d|), relatively,
// so
//   sum: eps sum_v exp(d) (kLambda (1 + |d|) + kLambda sqrt(V));   target: eps (|logit| + |max|)
//   loss: kLambda eps (1 + |log sum| + |target|);   gradient: kLambda eps p (2 + |d|) + eps [column is the target]
#include <cmath>
#include <limits>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

struct Spec {
  int64_t rows, width, valid;
  DType dtype;
  double deviation;
  bool gradient = false;

  int64_t first_id() const { return 2 * valid; }
};

std::string name_of(const char* op, const Spec& s) {
  return build_string(op, " ", s.rows, "x", s.width, " valid ", s.valid, " ", dtype_name(s.dtype), " deviation ",
                      s.deviation, s.gradient ? " gradient" : "");
}

Operand logits_of(const Spec& s, Use use, Random& random) {
  Values x = random.normal(s.dtype, s.rows * s.width, s.deviation);
  for (size_t i = 0; i < x.size(); ++i) {
    if (static_cast<int64_t>(i) % s.width >= s.valid) x[i] = 1000;
  }
  return {"logits", use, s.dtype, {s.rows, s.width}, x};
}

/// Most targets on this rank, the others on its neighbours; every third row from the second on is ignored.
Operand ids_of(const Spec& s, Random& random) {
  Values ids = random.integers(s.rows, s.first_id(), s.first_id() + std::max<int64_t>(s.valid, 1));
  for (size_t t = 0; t < ids.size(); ++t) {
    if (t % 3 == 1) ids[t] = t % 2 == 0 ? -1 : -100;
    if (t % 5 == 2) ids[t] = static_cast<double>(t % 2 == 0 ? s.first_id() - 1 : s.first_id() + s.valid);
  }
  return {"ids", Use::in, DType::i32, {s.rows}, ids};
}

/// The column of row t's target on this rank, or -1.
int64_t column_of(const Spec& s, const Values& ids, size_t t) {
  const int64_t column = static_cast<int64_t>(ids[t]) - s.first_id();
  return ids[t] >= 0 && column >= 0 && column < s.valid ? column : -1;
}

double logit(const Spec& s, const Values& logits, size_t t, int64_t v) {
  return logits[t * static_cast<size_t>(s.width) + static_cast<size_t>(v)];
}

/// Row maxima as an all-reduce would return them: over this rank's valid columns and those of a rank that holds 0.5.
Operand max_of(const Spec& s, const Values& logits) {
  Values max(static_cast<size_t>(s.rows), 0.5);
  for (size_t t = 0; t < max.size(); ++t) {
    for (int64_t v = 0; v < s.valid; ++v) max[t] = std::max(max[t], logit(s, logits, t, v));
  }
  return {"max", Use::in, statistics_dtype(s.dtype), {s.rows}, max};
}

Case max_case(const Spec& s) {
  Case c;
  c.name = name_of("softmax_max", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o{logits_of(s, Use::in, random)};
    o.push_back({"max", Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) { ops.softmax_max(t.stream(), t["max"], t["logits"], s.valid); };
  c.bounds = [](const Oracle&) { return Bounds{}; };
  return c;
}

Bounds sum_bounds(const Spec& s, const Oracle& oracle) {
  const Values &logits = oracle.before("logits"), &max = oracle.before("max"), &ids = oracle.before("ids");
  const auto rows = static_cast<size_t>(s.rows);
  Values sum(rows, 0.0), target(rows, 0.0);
  for (size_t t = 0; t < rows; ++t) {
    for (int64_t v = 0; v < s.valid; ++v) {
      const double d = logit(s, logits, t, v) - max[t];
      sum[t] += kEps * kLambda * std::exp(d) * (1 + std::abs(d) + std::sqrt(static_cast<double>(s.valid)));
    }
    const int64_t column = column_of(s, ids, t);
    if (column >= 0) target[t] = kEps * (std::abs(logit(s, logits, t, column)) + std::abs(max[t]));
  }
  return {{"sum", sum}, {"target", target}};
}

Case sum_case(const Spec& s) {
  Case c;
  c.name = name_of("softmax_sum", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o{logits_of(s, Use::in, random)};
    o.push_back(max_of(s, o[0].values));
    o.push_back(ids_of(s, random));
    o.push_back({"sum", Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
    o.push_back({"target", Use::out, statistics_dtype(s.dtype), {s.rows}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.softmax_sum(t.stream(), t["sum"], t["target"], t["logits"], t["max"], t["ids"], s.first_id(), s.valid);
  };
  c.bounds = [s](const Oracle& oracle) { return sum_bounds(s, oracle); };
  return c;
}

Bounds loss_bounds(const Spec& s, const Oracle& oracle) {
  const Values &logits = oracle.before("logits"), &max = oracle.before("max"), &ids = oracle.before("ids");
  const Values &sum = oracle.before("sum"), &target = oracle.before("target");
  const auto rows = static_cast<size_t>(s.rows);
  Values loss(rows, 0.0), gradient(logits.size(), 0.0);
  for (size_t t = 0; t < rows; ++t) {
    if (ids[t] < 0) continue;
    loss[t] = kLambda * kEps * (1 + std::abs(std::log(sum[t])) + std::abs(target[t]));
    for (int64_t v = 0; v < s.valid; ++v) {
      const double d = logit(s, logits, t, v) - max[t];
      gradient[t * static_cast<size_t>(s.width) + static_cast<size_t>(v)] =
          kEps * (kLambda * std::exp(d) / sum[t] * (2 + std::abs(d)) + (v == column_of(s, ids, t) ? 1.0 : 0.0));
    }
  }
  Bounds bounds{{"loss", loss}};
  if (s.gradient) bounds["logits"] = gradient;
  return bounds;
}

Case loss_case(const Spec& s) {
  Case c;
  c.name = name_of("softmax_loss", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    const DType statistics = statistics_dtype(s.dtype);
    std::vector<Operand> o{logits_of(s, s.gradient ? Use::inout : Use::in, random)};
    o.push_back(max_of(s, o[0].values));
    o.push_back(ids_of(s, random));
    // Another rank adds 2 to every sum, and -1.5 to the targets that are not ours.
    const Values max = o[1].values, ids = o[2].values;
    Values sum(max.size(), 2.0), target(max.size(), 0.0);
    for (size_t t = 0; t < max.size(); ++t) {
      for (int64_t v = 0; v < s.valid; ++v) sum[t] += std::exp(logit(s, o[0].values, t, v) - max[t]);
      sum[t] = round_to(statistics, sum[t]);
      const int64_t column = column_of(s, ids, t);
      if (ids[t] >= 0) {
        target[t] = round_to(statistics, column >= 0 ? logit(s, o[0].values, t, column) - max[t] : -1.5);
      }
    }
    o.push_back({"sum", Use::in, statistics, {s.rows}, sum});
    o.push_back({"target", Use::in, statistics, {s.rows}, target});
    o.push_back({"loss", Use::out, statistics, {s.rows}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.softmax_loss(t.stream(), t["loss"], t["logits"], t["max"], t["sum"], t["target"], t["ids"], s.first_id(),
                     s.valid, s.gradient);
  };
  c.bounds = [s](const Oracle& oracle) { return loss_bounds(s, oracle); };
  return c;
}

}  // namespace

std::vector<Case> loss_cases() {
  constexpr int64_t kShapes[][3] = {{1, 1, 1},      {3, 5, 5},       {7, 33, 31},    {4, 130, 130},
                                    {12, 257, 250}, {5, 64, 64},     {2, 1000, 997}, {130, 16, 9},
                                    {3, 8, 0},      {3, 5000, 4991}, {0, 16, 9}};
  std::vector<Case> list;
  for (const auto& x : kShapes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const double deviation : {1.0, 20.0}) {
        list.push_back(max_case({x[0], x[1], x[2], dtype, deviation}));
        list.push_back(sum_case({x[0], x[1], x[2], dtype, deviation}));
        list.push_back(loss_case({x[0], x[1], x[2], dtype, deviation, false}));
        list.push_back(loss_case({x[0], x[1], x[2], dtype, deviation, true}));
      }
    }
  }
  return list;
}

}  // namespace trident::cases
