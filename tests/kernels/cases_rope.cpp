// Rotary embedding, in place on the first heads of each row.
//
// Bound: two products and a sum with a cosine and a sine that are good to kLambda roundings of the exact angle (so the
// angle itself must be computed better than in f32): kLambda eps (|a| + |b|).
#include <cmath>

#include "cases.h"
#include "core/base/error.h"

namespace trident::cases {
namespace {

struct Spec {
  int64_t sequences, context, heads, other_heads, head_size;
  DType dtype;
  double theta;
  bool inverse;

  int64_t rows() const { return sequences * context; }
  int64_t width() const { return (heads + other_heads) * head_size; }
};

Case make_case(const Spec& s) {
  Case c;
  c.name = build_string("rope ", s.sequences, "x", s.context, " heads ", s.heads, "+", s.other_heads, " of ",
                        s.head_size, " ", dtype_name(s.dtype), " theta ", s.theta, s.inverse ? " inverse" : "");
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o;
    o.push_back({"qkv", Use::inout, s.dtype, {s.rows(), s.width()}, random.normal(s.dtype, s.rows() * s.width())});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    ops.rope(t.stream(), {.qkv = t["qkv"],
                          .context = s.context,
                          .heads = s.heads,
                          .head_size = s.head_size,
                          .theta = s.theta,
                          .inverse = s.inverse});
  };
  c.bounds = [s](const Oracle& oracle) {
    const Values& x = oracle.before("qkv");
    const auto width = static_cast<size_t>(s.width()), half = static_cast<size_t>(s.head_size / 2);
    Values bound(x.size(), 0.0);
    for (size_t t = 0; t < static_cast<size_t>(s.rows()); ++t) {
      for (size_t i = 0; i < static_cast<size_t>(s.heads * s.head_size); ++i) {
        const size_t at = t * width + i, partner = (i / half) % 2 == 0 ? at + half : at - half;
        bound[at] = kLambda * kEps * (std::abs(x[at]) + std::abs(x[partner]));
      }
    }
    return Bounds{{"qkv", bound}};
  };
  return c;
}

}  // namespace

std::vector<Case> rope_cases() {
  constexpr int64_t kShapes[][5] = {{1, 1, 1, 0, 2},     {2, 7, 3, 1, 6},   {3, 33, 2, 2, 16}, {1, 130, 5, 1, 64},
                                    {2, 128, 2, 1, 128}, {1, 64, 3, 3, 96}, {2, 5, 1, 2, 8},   {1, 2000, 1, 0, 4},
                                    {0, 7, 3, 1, 6},     {1, 2, 1, 0, 1024}};
  std::vector<Case> list;
  for (const auto& x : kShapes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const double theta : {10000.0, 500000.0}) {
        for (const bool inverse : {false, true}) {
          list.push_back(make_case({x[0], x[1], x[2], x[3], x[4], dtype, theta, inverse}));
        }
      }
    }
  }
  return list;
}

}  // namespace trident::cases
