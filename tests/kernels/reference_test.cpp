// The reference table against independent computations: direct formulas, splits over pretend ranks, hand-written loops.
#include "kernels/reference/reference_ops.h"

#include "f64_tensor.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

constexpr double kEps64 = dtype_epsilon(DType::f64);

F64 random_tensor(Random& random, const std::vector<int64_t>& shape, double deviation = 1) {
  F64 t(shape);
  t.values = random.normal(DType::f64, static_cast<int64_t>(t.size()), deviation);
  return t;
}

/// Fraction of kept elements of a [rows, width] tensor of ones, by the values that dropout leaves.
std::vector<bool> kept(const Ops& ops, int64_t first_row, int64_t rows, int64_t width, float p) {
  F64 z({rows, width}, Values(static_cast<size_t>(rows * width), 1.0)), y({rows, width});
  ops.dropout_add({}, y, {}, z, {.p = p, .key = {42, 3, random_purpose("x")}, .first_row = first_row});
  std::vector<bool> mask;
  for (const double v : y.values) {
    REQUIRE((v == 0.0 || v == 1.0 / (1.0 - static_cast<double>(p))));
    mask.push_back(v != 0.0);
  }
  return mask;
}

}  // namespace

TEST_CASE("gemm multiplies a worked example in every layout") {
  const auto ops = make_reference_ops();
  F64 a({2, 3}, {1, 2, 3, 4, 5, 6}), a_t({3, 2}, {1, 4, 2, 5, 3, 6});
  F64 b({3, 2}, {7, 8, 9, 10, 11, 12}), b_t({2, 3}, {7, 9, 11, 8, 10, 12});
  F64 bias({2}, {0.5, -0.5});
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      F64 c({2, 2});
      GemmArgs args;
      args.c_MN = c;
      args.a = ta ? Tensor(a_t) : Tensor(a);
      args.b = tb ? Tensor(b_t) : Tensor(b);
      args.transpose_a = ta;
      args.transpose_b = tb;
      args.bias_N = bias;
      ops->gemm({}, args);
      CHECK(c.values == Values{58.5, 63.5, 139.5, 153.5});
      args.bias_N = {};
      args.accumulate = true;
      ops->gemm({}, args);
      CHECK(c.values == Values{116.5, 127.5, 278.5, 307.5});
    }
  }
}

TEST_CASE("layer and RMS norm of a worked row") {
  const auto ops = make_reference_ops();
  F64 x({1, 2}, {3, 1}), w({2}, {2, 10}), b({2}, {5, 6}), y({1, 2}), mean({1}), rstd({1});
  NormArgs args{.kind = NormKind::layer_norm, .eps = 0, .y_TD = y, .mean_T = mean, .rstd_T = rstd, .x_TD = x, .w_D = w};
  args.b_D = b;
  ops->norm_forward({}, args);
  CHECK(mean[0] == 2);
  CHECK(rstd[0] == 1);
  CHECK(y.values == Values{7, -4});
  args.kind = NormKind::rms_norm;
  args.mean_T = args.b_D = {};
  ops->norm_forward({}, args);
  CHECK(std::abs(rstd[0] - 1 / std::sqrt(5.0)) <= 4 * kEps64 * std::abs(1 / std::sqrt(5.0)));
  CHECK(std::abs(y[0] - 6 / std::sqrt(5.0)) <= 4 * kEps64 * std::abs(6 / std::sqrt(5.0)));
}

TEST_CASE("attention is the direct softmax formula, grouped heads included") {
  const auto ops = make_reference_ops();
  Random random(1);
  const int64_t C = 4, H = 4, G = 2, K = 3;
  F64 qkv = random_tensor(random, {2 * C, (H + 2 * G) * K}), out({2 * C, H * K}), lse({2, H, C});
  AttentionArgs args;
  args.out = out;
  args.lse = lse;
  args.qkv = qkv;
  args.context = C;
  args.heads = H;
  args.kv_heads = G;
  args.head_size = K;
  args.scale = 0.5f;
  ops->attention_forward({}, args);
  const auto at = [&](int64_t s, int64_t t, int64_t head, int64_t k) {
    return qkv[static_cast<size_t>((s * C + t) * (H + 2 * G) * K + head * K + k)];
  };
  for (int64_t s = 0; s < 2; ++s) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t t = 0; t < C; ++t) {
        double sum = 0, weighted[3] = {0, 0, 0};
        for (int64_t j = 0; j <= t; ++j) {
          double score = 0;
          for (int64_t k = 0; k < K; ++k) score += 0.5 * at(s, t, h, k) * at(s, j, H + h / 2, k);
          sum += std::exp(score);
          for (int64_t k = 0; k < K; ++k) weighted[k] += std::exp(score) * at(s, j, H + G + h / 2, k);
        }
        CHECK(std::abs(lse[static_cast<size_t>((s * H + h) * C + t)] - std::log(sum)) <= 64 * kEps64);
        for (int64_t k = 0; k < K; ++k) {
          const double got = out[static_cast<size_t>((s * C + t) * H * K + h * K + k)];
          CHECK(std::abs(got - weighted[k] / sum) <= 64 * kEps64);
        }
      }
    }
  }
}

TEST_CASE("attention dropout follows the head's and the sequence's global index") {
  // Heads {2, 3} of four, and sequence 1 of two, computed alone, equal their part of the whole.
  const auto ops = make_reference_ops();
  Random random(2);
  const int64_t C = 6, K = 2;
  F64 whole = random_tensor(random, {2 * C, 3 * 4 * K}), whole_out({2 * C, 4 * K}), whole_lse({2, 4, C});
  AttentionArgs args;
  args.out = whole_out;
  args.lse = whole_lse;
  args.qkv = whole;
  args.context = C;
  args.heads = args.kv_heads = args.heads_total = 4;
  args.head_size = K;
  args.dropout = 0.5f;
  args.dropout_key = {1, 2, 3};
  ops->attention_forward({}, args);

  F64 part({C, 3 * 2 * K}), part_out({C, 2 * K}), part_lse({1, 2, C});
  for (size_t t = 0; t < 6; ++t) {
    for (size_t third = 0; third < 3; ++third) {
      for (size_t i = 0; i < 4; ++i) part[(t * 3 + third) * 4 + i] = whole[((6 + t) * 3 + third) * 8 + 4 + i];
    }
  }
  args.out = part_out;
  args.lse = part_lse;
  args.qkv = part;
  args.heads = args.kv_heads = 2;
  args.first_head = 2;
  args.first_sequence = 1;
  ops->attention_forward({}, args);
  for (size_t t = 0; t < 6; ++t) {
    for (size_t i = 0; i < 4; ++i) CHECK(part_out[t * 4 + i] == whole_out[(6 + t) * 8 + 4 + i]);
  }
}

TEST_CASE("the three softmax passes over three pretend ranks equal the direct cross-entropy") {
  const auto ops = make_reference_ops();
  Random random(3);
  const size_t T = 5, V = 10;
  const F64 all = random_tensor(random, {5, 10}, 5);
  std::vector<int32_t> ids{0, 9, -1, 4, 6};
  const Tensor id_T(ids.data(), DType::i32, {5});
  // Ranks hold 4, 4 and 2 columns, each padded to 4; the padding would win every maximum.
  constexpr size_t kFirst[] = {0, 4, 8}, kValid[] = {4, 4, 2};
  std::vector<F64> logits, max, sum, target;
  for (size_t r = 0; r < 3; ++r) {
    logits.emplace_back(std::vector<int64_t>{5, 4}, Values(20, 1e6));
    for (size_t t = 0; t < T; ++t) {
      for (size_t v = 0; v < kValid[r]; ++v) logits[r][t * 4 + v] = all.values[t * V + kFirst[r] + v];
    }
    max.emplace_back(std::vector<int64_t>{5});
    sum.emplace_back(std::vector<int64_t>{5});
    target.emplace_back(std::vector<int64_t>{5});
    ops->softmax_max({}, max[r], logits[r], static_cast<int64_t>(kValid[r]));
  }
  F64 max_all({5}), sum_all({5}), target_all({5}), loss({5});
  for (size_t t = 0; t < T; ++t) max_all[t] = std::max({max[0][t], max[1][t], max[2][t]});
  for (size_t r = 0; r < 3; ++r) {
    ops->softmax_sum({}, sum[r], target[r], logits[r], max_all, id_T, static_cast<int64_t>(kFirst[r]),
                     static_cast<int64_t>(kValid[r]));
    for (size_t t = 0; t < T; ++t) sum_all[t] += sum[r][t], target_all[t] += target[r][t];
  }
  for (size_t r = 0; r < 3; ++r) {
    ops->softmax_loss({}, loss, logits[r], max_all, sum_all, target_all, id_T, static_cast<int64_t>(kFirst[r]),
                      static_cast<int64_t>(kValid[r]), true);
    for (size_t t = 0; t < T; ++t) {
      double direct = 0;
      for (size_t v = 0; v < V; ++v) direct += std::exp(all.values[t * V + v]);
      const bool ignored = ids[t] < 0;
      const double want = ignored ? 0.0 : std::log(direct) - all.values[t * V + static_cast<size_t>(ids[t])];
      CHECK(std::abs(loss[t] - want) <= 256 * kEps64);
      for (size_t v = 0; v < 4; ++v) {
        const size_t column = kFirst[r] + v;
        double gradient = 0;
        if (!ignored && v < kValid[r]) {
          gradient = std::exp(all.values[t * V + column]) / direct - (static_cast<int32_t>(column) == ids[t] ? 1 : 0);
        }
        CHECK(std::abs(logits[r][t * 4 + v] - gradient) <= 256 * kEps64);
      }
    }
  }
}

TEST_CASE("an embedding split by rows over ranks sums to the whole") {
  const auto ops = make_reference_ops();
  Random random(4);
  F64 table = random_tensor(random, {7, 3}), whole({6, 3}), sum({6, 3});
  std::vector<int32_t> ids{0, 6, 3, 2, 3, 5};
  const Tensor id_T(ids.data(), DType::i32, {6});
  ops->embedding_forward({}, whole, id_T, table, 0);
  for (const auto& [begin, end] : {std::pair{0, 3}, std::pair{3, 6}, std::pair{6, 7}}) {
    F64 part({6, 3});
    ops->embedding_forward({}, part, id_T, Tensor(table).rows(begin, end), begin);
    for (size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
  }
  CHECK(sum.values == whole.values);
}

TEST_CASE("dropout keeps the promised fraction, whatever the split by rows") {
  const auto ops = make_reference_ops();
  for (const float p : {0.1f, 0.5f}) {
    const std::vector<bool> whole = kept(*ops, 5, 200, 77, p);
    const double n = static_cast<double>(whole.size()), q = 1 - static_cast<double>(p);
    const double count = static_cast<double>(std::count(whole.begin(), whole.end(), true));
    // Binomial(n, q): five standard deviations leave one seed in 1.7 million.
    CHECK(std::abs(count - n * q) <= 5 * std::sqrt(n * q * (1 - q)));
    std::vector<bool> split = kept(*ops, 5, 13, 77, p);
    const std::vector<bool> rest = kept(*ops, 18, 187, 77, p);
    split.insert(split.end(), rest.begin(), rest.end());
    CHECK(split == whole);
  }
}

TEST_CASE("adamw follows five steps of the published algorithm") {
  const auto ops = make_reference_ops();
  Random random(5);
  F64 master = random_tensor(random, {4}), m({4}), v({4});
  Values theta = master.values, first(4, 0.0), second(4, 0.0);
  const double lr = static_cast<double>(0.01f), b1 = static_cast<double>(0.9f), b2 = static_cast<double>(0.95f);
  const double eps = static_cast<double>(1e-8f), decay = static_cast<double>(0.1f), scale = 0.5;
  for (int step = 1; step <= 5; ++step) {
    F64 grad = random_tensor(random, {4});
    const Values g0 = grad.values;
    std::vector<uint16_t> weight(4);
    ops->adamw({}, {.master = master,
                    .m = m,
                    .v = v,
                    .grad = grad,
                    .weight = Tensor(weight.data(), DType::bf16, {4}),
                    .lr = 0.01f,
                    .beta1 = 0.9f,
                    .beta2 = 0.95f,
                    .eps = 1e-8f,
                    .weight_decay = 0.1f,
                    .grad_scale = 0.5f,
                    .step = step});
    for (size_t i = 0; i < 4; ++i) {
      const double g = g0[i] * scale;
      theta[i] -= lr * decay * theta[i];
      first[i] = b1 * first[i] + (1 - b1) * g;
      second[i] = b2 * second[i] + (1 - b2) * g * g;
      const double m_hat = first[i] / (1 - std::pow(b1, step)), v_hat = second[i] / (1 - std::pow(b2, step));
      theta[i] -= lr * m_hat / (std::sqrt(v_hat) + eps);
      CHECK(std::abs(master[i] - theta[i]) <= 64 * kEps64);
      CHECK(weight[i] == bf16(static_cast<float>(master[i])).bits);
      CHECK(grad[i] == g0[i]);
    }
  }
}

TEST_CASE("totals of a worked vector") {
  const auto ops = make_reference_ops();
  F64 x({3}, {1, -2, 3}), out({1});
  ops->sum({}, out, x, {});
  CHECK(out[0] == 2);
  ops->sum_squares({}, out, x, {});
  CHECK(out[0] == 14);
}
