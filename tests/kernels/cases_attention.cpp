// Attention forward and backward: contexts around block edges, grouped heads, sharp scores, dropout, not causal.
//
// Bound, a running error analysis per query row in units of eps = kEps; c = eps(compute dtype) / eps lets a table keep
// probabilities and score gradients in the compute dtype, as the inputs of its second GEMM:
//   score:  e_s = kLambda (sqrt(K) + 2) scale sum|q k|
//   p:      relative r = 2 max e_s + kLambda (1 + sqrt(C) + 2 max(|s|, |lse|))
//   out:    sum_j p_j f_j |v_j| (r + kLambda sqrt(C) + c);      lse: max e_s + kLambda (1 + |lse| + sqrt(C))
// Backward (out and lse are given, f the dropout factor, delta = do . o, dp = f do . v):
//   e_ds = p kLambda sqrt(K) (f sum|do v| + sum|do o|) + |ds| (r + 2 + c)
//   dv: sum_i p f |do| (r + kLambda sqrt(n) + c);   dq, dk: scale sum |k or q| (e_ds + kLambda sqrt(n) |ds|)
// with n the number of rows that add up: C for dq, C H/G for dk and dv. Where p f and ds are kept in the compute dtype,
// each also errs by its underflow u (f16: 2^-25; a probability, scaled by at most exp(maximum so far - last maximum) <=
// 1 later, by no more): sum_j u f |v_j| for out, sum_i u f |do| for dv, scale sum u |k or q| for dq, dk.
#include <cmath>

#include "cases.h"
#include "core/base/error.h"
#include "kernels/reference/reference_ops.h"

namespace trident::cases {
namespace {

struct Spec {
  int64_t sequences, context, heads, kv_heads, head_size;
  DType dtype;
  double deviation = 1;  ///< of q, k and v: 3 makes the softmax sharp
  bool causal = true;
  float dropout = 0;

  int64_t rows() const { return sequences * context; }
  int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_size; }
  int64_t out_width() const { return heads * head_size; }
  double scale() const {
    return static_cast<double>(static_cast<float>(1 / std::sqrt(static_cast<double>(head_size))));
  }
};

std::string name_of(const char* direction, const Spec& s) {
  return build_string("attention_", direction, " ", s.sequences, "x", s.context, " heads ", s.heads, "/", s.kv_heads,
                      " of ", s.head_size, " ", dtype_name(s.dtype), s.deviation > 1 ? " sharp" : "",
                      s.causal ? "" : " full", s.dropout > 0 ? " dropout" : "");
}

AttentionArgs args_of(const Spec& s, Tensor qkv, Tensor out, Tensor lse) {
  AttentionArgs args;
  args.out = out;
  args.lse = lse;
  args.qkv = qkv;
  args.context = s.context;
  args.heads = s.heads;
  args.kv_heads = s.kv_heads;
  args.head_size = s.head_size;
  args.scale = static_cast<float>(s.scale());
  args.causal = s.causal;
  args.dropout = s.dropout;
  args.dropout_key = {77, 5, random_purpose("attention case")};
  args.first_sequence = 3;
  args.first_head = 2;
  args.heads_total = s.heads + 3;
  return args;
}

Operand qkv_of(const Spec& s, Random& random) {
  const int64_t n = s.rows() * s.qkv_width();
  return {"qkv", Use::in, s.dtype, {s.rows(), s.qkv_width()}, random.normal(s.dtype, n, s.deviation)};
}

double product(const Values& a, size_t i, const Values& b, size_t j, size_t n, bool absolute) {
  double sum = 0;
  for (size_t k = 0; k < n; ++k) sum += absolute ? std::abs(a[i + k] * b[j + k]) : a[i + k] * b[j + k];
  return sum;
}

/// What both bounds need of one query row: where it lies, its scores, and the relative error of its probabilities.
struct QueryRow {
  size_t query, out, lse;          ///< offsets
  std::vector<size_t> key, value;  ///< offsets, one for each key that the query sees
  Values score;
  double e_score = 0, relative = 0;
};

/// Calls `visit` with every query row.
template <class Visit>
void for_each_query(const Spec& s, const Values& qkv, const Values& lse, Visit visit) {
  const auto C = static_cast<size_t>(s.context), K = static_cast<size_t>(s.head_size);
  const auto H = static_cast<size_t>(s.heads), G = static_cast<size_t>(s.kv_heads);
  const double root_k = std::sqrt(static_cast<double>(K)), root_c = std::sqrt(static_cast<double>(C));
  for (size_t b = 0; b < static_cast<size_t>(s.sequences); ++b) {
    for (size_t h = 0; h < H; ++h) {
      for (size_t t = 0; t < C; ++t) {
        QueryRow row{((b * C + t) * (H + 2 * G) + h) * K, ((b * C + t) * H + h) * K, (b * H + h) * C + t, {}, {}, {}};
        double largest = std::abs(lse[row.lse]);
        for (size_t j = 0; j < (s.causal ? t + 1 : C); ++j) {
          row.key.push_back(((b * C + j) * (H + 2 * G) + H + h / (H / G)) * K);
          row.value.push_back(row.key.back() + G * K);
          row.score.push_back(s.scale() * product(qkv, row.query, qkv, row.key.back(), K, false));
          const double magnitude = s.scale() * product(qkv, row.query, qkv, row.key.back(), K, true);
          row.e_score = std::max(row.e_score, kLambda * (root_k + 2) * magnitude);
          largest = std::max(largest, std::abs(row.score.back()));
        }
        row.relative = 2 * row.e_score + kLambda * (1 + root_c + 2 * largest);
        visit(row);
      }
    }
  }
}

double compute_eps(const Spec& s) { return dtype_epsilon(s.dtype) / kEps; }

/// Largest dropout factor: the bounds need not know which elements were dropped.
double keep_factor(const Spec& s) { return 1.0 / (1.0 - static_cast<double>(s.dropout)); }

Bounds forward_bounds(const Spec& s, const Oracle& oracle) {
  const Values &qkv = oracle.before("qkv"), &lse = oracle.after("lse");
  const auto K = static_cast<size_t>(s.head_size);
  const double root_c = std::sqrt(static_cast<double>(s.context));
  Values out_bound(oracle.after("out").size(), 0.0), lse_bound(lse.size());
  for_each_query(s, qkv, lse, [&](const QueryRow& row) {
    lse_bound[row.lse] = kEps * (row.e_score + kLambda * (1 + std::abs(lse[row.lse]) + root_c));
    for (size_t j = 0; j < row.score.size(); ++j) {
      const double p = std::exp(row.score[j] - lse[row.lse]) * keep_factor(s);
      for (size_t k = 0; k < K; ++k) {
        out_bound[row.out + k] +=
            std::abs(qkv[row.value[j] + k]) *
            (kEps * p * (row.relative + kLambda * root_c + compute_eps(s)) + underflow(s.dtype) * keep_factor(s));
      }
    }
  });
  return {{"out", out_bound}, {"lse", lse_bound}};
}

Bounds backward_bounds(const Spec& s, const Oracle& oracle) {
  const Values &qkv = oracle.before("qkv"), &lse = oracle.before("lse");
  const Values &out = oracle.before("out"), &dout = oracle.before("dout");
  const auto K = static_cast<size_t>(s.head_size);
  const double root_c = kLambda * std::sqrt(static_cast<double>(s.context));
  const double root_group = root_c * std::sqrt(static_cast<double>(s.heads / s.kv_heads));
  const double e_dot = kLambda * std::sqrt(static_cast<double>(K)), c = compute_eps(s), f = keep_factor(s);
  const double u = underflow(s.dtype);
  Values bound(qkv.size(), 0.0);
  for_each_query(s, qkv, lse, [&](const QueryRow& row) {
    const double delta = product(dout, row.out, out, row.out, K, false);
    const double e_delta = e_dot * product(dout, row.out, out, row.out, K, true);
    for (size_t j = 0; j < row.score.size(); ++j) {
      const double p = std::exp(row.score[j] - lse[row.lse]);
      const double dp = f * product(dout, row.out, qkv, row.value[j], K, false);
      // With dropout dp is 0 or f do.v: the larger of the two distances from delta.
      const double ds = p * (s.dropout > 0 ? std::abs(dp) + std::abs(delta) : std::abs(dp - delta));
      const double e_ds =
          p * (e_dot * f * product(dout, row.out, qkv, row.value[j], K, true) + e_delta) + ds * (row.relative + 2 + c);
      for (size_t k = 0; k < K; ++k) {
        const double q_k = std::abs(qkv[row.query + k]), k_k = std::abs(qkv[row.key[j] + k]);
        bound[row.value[j] + k] += f * std::abs(dout[row.out + k]) * (kEps * p * (row.relative + root_group + c) + u);
        bound[row.query + k] += s.scale() * k_k * (kEps * (e_ds + root_c * ds) + u);
        bound[row.key[j] + k] += s.scale() * q_k * (kEps * (e_ds + root_group * ds) + u);
      }
    }
  });
  return {{"dqkv", bound}};
}

Case forward_case(const Spec& s) {
  Case c;
  c.name = name_of("forward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o{qkv_of(s, random)};
    o.push_back({"out", Use::out, s.dtype, {s.rows(), s.out_width()}, {}});
    o.push_back({"lse", Use::out, statistics_dtype(s.dtype), {s.sequences, s.heads, s.context}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    AttentionArgs args = args_of(s, t["qkv"], t["out"], t["lse"]);
    args.scratch = t.scratch(ops.scratch_bytes(args));
    ops.attention_forward(t.stream(), args);
  };
  c.bounds = [s](const Oracle& oracle) { return forward_bounds(s, oracle); };
  return c;
}

Case backward_case(const Spec& s) {
  Case c;
  c.name = name_of("backward", s);
  c.operands = [s, seed = seed_of(c.name)] {
    Random random(seed);
    std::vector<Operand> o{qkv_of(s, random)};
    Values qkv = o[0].values, out(static_cast<size_t>(s.rows() * s.out_width()));
    Values lse(static_cast<size_t>(s.sequences * s.heads * s.context));
    const Tensor qkv_tensor(qkv.data(), DType::f64, {s.rows(), s.qkv_width()});
    const Tensor out_tensor(out.data(), DType::f64, {s.rows(), s.out_width()});
    const Tensor lse_tensor(lse.data(), DType::f64, {s.sequences, s.heads, s.context});
    make_reference_ops()->attention_forward({}, args_of(s, qkv_tensor, out_tensor, lse_tensor));
    for (double& x : out) x = round_to(s.dtype, x);
    for (double& x : lse) x = round_to(statistics_dtype(s.dtype), x);
    o.push_back({"out", Use::in, s.dtype, {s.rows(), s.out_width()}, out});
    o.push_back({"lse", Use::in, statistics_dtype(s.dtype), {s.sequences, s.heads, s.context}, lse});
    const Values dout = random.normal(s.dtype, s.rows() * s.out_width());
    o.push_back({"dout", Use::in, s.dtype, {s.rows(), s.out_width()}, dout});
    o.push_back({"dqkv", Use::out, s.dtype, {s.rows(), s.qkv_width()}, {}});
    return o;
  };
  c.run = [s](const Ops& ops, Arguments& t) {
    AttentionBackwardArgs args;
    args.forward = args_of(s, t["qkv"], t["out"], t["lse"]);
    args.dqkv = t["dqkv"];
    args.dout = t["dout"];
    args.scratch = t.scratch(ops.scratch_bytes(args));
    ops.attention_backward(t.stream(), args);
  };
  c.bounds = [s](const Oracle& oracle) { return backward_bounds(s, oracle); };
  return c;
}

}  // namespace

std::vector<Case> attention_cases() {
  // sequences, context, heads, kv_heads, head_size
  constexpr int64_t kShapes[][5] = {{1, 1, 1, 1, 8},   {2, 7, 2, 1, 8},    {1, 33, 4, 2, 16},  {3, 1, 6, 2, 64},
                                    {2, 33, 3, 3, 96}, {1, 128, 2, 2, 64}, {1, 130, 4, 1, 16}, {1, 130, 2, 1, 128},
                                    {2, 65, 1, 1, 64}, {1, 7, 6, 2, 128},  {1, 256, 2, 1, 8},  {2, 33, 2, 2, 5}};
  std::vector<Case> list;
  const auto push = [&list](const Spec& s) {
    list.push_back(forward_case(s));
    list.push_back(backward_case(s));
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto& x : kShapes) push({x[0], x[1], x[2], x[3], x[4], dtype});
    push({1, 65, 2, 1, 64, dtype, 3.0});
    push({1, 200, 1, 1, 64, dtype, 6.0});  // many a row's maximum grows by more than 2^16 from one block to the next
    push({2, 33, 2, 1, 16, dtype, 1.0, false});
    push({1, 130, 2, 2, 64, dtype, 1.0, false});
    push({2, 33, 4, 2, 16, dtype, 1.0, true, 0.25f});
    push({1, 130, 2, 2, 64, dtype, 1.0, true, 0.1f});
    push({2, 7, 2, 1, 8, dtype, 1.0, false, 0.5f});
  }
  // The head sizes that tensor cores take, at the edges of their tiles (16, 32, 64 and 128 positions); each context
  // with other heads, so that every size meets one and several query heads a kv head, both masks, with and without
  // dropout.
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const int64_t head_size : {64, 96, 128}) {
      push({2, 1, 2, 2, head_size, dtype, 1.0, false});
      push({1, 16, 1, 1, head_size, dtype, 1.0, true, 0.25f});
      push({1, 63, 3, 1, head_size, dtype});
      push({1, 64, 2, 1, head_size, dtype, 1.0, false, 0.1f});
      push({2, 65, 2, 1, head_size, dtype, 1.0, true, 0.1f});
      push({1, 130, 1, 1, head_size, dtype, 1.0, false});
      push({1, 200, 2, 1, head_size, dtype, 1.0, true, 0.2f});
    }
  }
  push({1, 300, 1, 1, 64, DType::bf16});
  push({1, 70, 2, 1, 80, DType::bf16});  // tensor cores take no other size
  push({1, 33, 1, 1, 256, DType::f32, 1.0, true, 0.1f});
  push({1, 40, 2, 1, 200, DType::f16, 1.0, false});
  return list;
}

}  // namespace trident::cases
