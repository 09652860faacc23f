// Token and position embeddings: ids outside this rank's range, repeated, negative.
//
// Bound: the gather is exact. A table row receives n tokens' rows on top of its old value:
// kLambda sqrt(n + 1) eps (|old| + sum|dy|). A position is one sum: eps (|y| + |table|).
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

struct Spec {
  int64_t tokens, width, rows;
  DType dtype;
  int64_t first_id() const { return rows; }
};

std::string name_of(const char* op, const Spec& s) {
  return build_string(op, " ", s.tokens, "x", s.width, " of ", s.rows, " ", dtype_name(s.dtype));
}

/// Ids of which about a third lies on this rank; the second token is -1, the third repeats the first.
Operand ids_of(const Spec& s, Random& random) {
  Values ids = random.integers(s.tokens, 0, 3 * s.rows);
  if (!ids.empty()) ids[0] = static_cast<double>(s.first_id());
  if (ids.size() > 2) {
    ids[1] = -1;
    ids[2] = ids[0];
  }
  return {"ids", Use::in, DType::i32, {s.tokens}, ids};
}

Case embedding_forward_case(const Spec& s) {
  Case c;
  c.name = name_of("embedding_forward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o{ids_of(s, random)};
    o.push_back({"table", Use::in, s.dtype, {s.rows, s.width}, random.normal(s.dtype, s.rows * s.width)});
    o.push_back({"y", Use::out, s.dtype, {s.tokens, s.width}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.embedding_forward(t.stream(), t["y"], t["ids"], t["table"], s.first_id());
  };
  c.bounds = [](const Oracle&) { return Bounds{}; };
  return c;
}

/// Bound of a scatter-add; `row_of(t)` is the table row of token t, or negative.
template <class RowOf>
Bounds scatter_bounds(const Oracle& oracle, int64_t width, RowOf row_of) {
  const Values& dy = oracle.before("dy");
  const auto n = static_cast<size_t>(width);
  Values bound = magnitudes(oracle.before("dtable")), hits(bound.size() / n, 1.0);
  for (size_t t = 0; t < dy.size() / n; ++t) {
    const int64_t row = row_of(t);
    if (row < 0 || row >= static_cast<int64_t>(hits.size())) continue;
    hits[static_cast<size_t>(row)] += 1;
    for (size_t d = 0; d < n; ++d) bound[static_cast<size_t>(row) * n + d] += std::abs(dy[t * n + d]);
  }
  for (size_t i = 0; i < bound.size(); ++i) bound[i] *= kLambda * kEps * std::sqrt(hits[i / n]);
  return {{"dtable", bound}};
}

Case embedding_backward_case(const Spec& s) {
  Case c;
  c.name = name_of("embedding_backward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    const DType grad = statistics_dtype(s.dtype);
    std::vector<Operand> o{ids_of(s, random)};
    o.push_back({"dy", Use::in, s.dtype, {s.tokens, s.width}, random.normal(s.dtype, s.tokens * s.width)});
    o.push_back({"dtable", Use::inout, grad, {s.rows, s.width}, random.normal(grad, s.rows * s.width)});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    const Tensor scratch = t.scratch(ops.embedding_scratch_bytes(s.tokens, s.rows));
    ops.embedding_backward(t.stream(), t["dtable"], t["ids"], t["dy"], s.first_id(), scratch);
  };
  c.bounds = [s](const Oracle& oracle) {
    const Values& ids = oracle.before("ids");
    return scatter_bounds(oracle, s.width, [&](size_t t) { return static_cast<int64_t>(ids[t]) - s.first_id(); });
  };
  return c;
}

/// A position table of s.rows rows, of which `context` are used; the rank's rows start in mid-sequence.
Case position_forward_case(const Spec& s, int64_t context, int64_t first_row) {
  Case c;
  c.name = build_string(name_of("position_forward", s), " context ", context, " from ", first_row);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"y", Use::inout, s.dtype, {s.tokens, s.width}, random.normal(s.dtype, s.tokens * s.width)});
    o.push_back({"table", Use::in, s.dtype, {s.rows, s.width}, random.normal(s.dtype, s.rows * s.width)});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.position_forward(t.stream(), t["y"], t["table"], first_row, context);
  };
  c.bounds = [=](const Oracle& oracle) {
    const Values& table = oracle.before("table");
    const auto n = static_cast<size_t>(s.width);
    Values bound = magnitudes(oracle.before("y"));
    for (size_t i = 0; i < bound.size(); ++i) {
      const size_t position = (static_cast<size_t>(first_row) + i / n) % static_cast<size_t>(context);
      bound[i] = kEps * (bound[i] + std::abs(table[position * n + i % n]));
    }
    return Bounds{{"y", bound}};
  };
  return c;
}

Case position_backward_case(const Spec& s, int64_t context, int64_t first_row) {
  Case c;
  c.name = build_string(name_of("position_backward", s), " context ", context, " from ", first_row);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    const DType grad = statistics_dtype(s.dtype);
    std::vector<Operand> o;
    o.push_back({"dy", Use::in, s.dtype, {s.tokens, s.width}, random.normal(s.dtype, s.tokens * s.width)});
    o.push_back({"dtable", Use::inout, grad, {s.rows, s.width}, random.normal(grad, s.rows * s.width)});
    return o;
  };
  c.run = [=](const Ops& ops, Arguments& t) {
    ops.position_backward(t.stream(), t["dtable"], t["dy"], first_row, context);
  };
  c.bounds = [=](const Oracle& oracle) {
    return scatter_bounds(oracle, s.width, [&](size_t t) { return (first_row + static_cast<int64_t>(t)) % context; });
  };
  return c;
}

}  // namespace

std::vector<Case> embedding_cases() {
  // An id with some forty tokens, rows of several hundred columns, no token.
  constexpr int64_t kShapes[][3] = {{1, 1, 1},   {3, 5, 2},   {7, 16, 9},    {33, 7, 5}, {130, 33, 257},
                                    {65, 64, 4}, {600, 8, 5}, {270, 520, 3}, {0, 8, 5}};
  std::vector<Case> list;
  for (const auto& x : kShapes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Spec s{x[0], x[1], x[2], dtype};
      list.push_back(embedding_forward_case(s));
      list.push_back(embedding_backward_case(s));
      for (const int64_t context : {s.rows / 2, s.rows}) {
        if (context == 0) continue;
        for (const int64_t first_row : {int64_t{0}, 2 * context - 1}) {
          list.push_back(position_forward_case(s, context, first_row));
          list.push_back(position_backward_case(s, context, first_row));
        }
      }
    }
  }
  return list;
}

}  // namespace trident::cases
