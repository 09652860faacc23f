// Reference rotary embedding and attention. One query row at a time: scores, softmax, weighted values; backward
// recomputes the probabilities from the stored log-sum-exp.
//
// With p the probabilities, r the dropout factors (0 or 1/(1-dropout)) and o the output row:
//   o = sum_j p_j r_j v_j,  dv_j += p_j r_j do,  dp_j = r_j (do . v_j),  ds_j = p_j (dp_j - do . o),
//   dq += scale ds_j k_j,  dk_j += scale ds_j q            (do . o = sum_j p_j dp_j, also under dropout)
#include "kernels/check.h"
#include "kernels/reference/formulas.h"
#include "kernels/reference/reference_table.h"
#include "kernels/reference/values.h"

namespace trident::reference {
namespace {

/// Where each head of each row lies in qkv, and which keys a query sees.
struct Layout {
  explicit Layout(const AttentionArgs& a)
      : context(static_cast<size_t>(a.context)),
        heads(static_cast<size_t>(a.heads)),
        kv_heads(static_cast<size_t>(a.kv_heads)),
        head_size(static_cast<size_t>(a.head_size)),
        sequences(static_cast<size_t>(a.qkv.dim[0] / a.context)) {}

  size_t row(size_t s, size_t t) const { return (s * context + t) * (heads + 2 * kv_heads) * head_size; }
  size_t query(size_t s, size_t h, size_t t) const { return row(s, t) + h * head_size; }
  size_t key(size_t s, size_t h, size_t t) const { return row(s, t) + (heads + h / (heads / kv_heads)) * head_size; }
  size_t value(size_t s, size_t h, size_t t) const { return key(s, h, t) + kv_heads * head_size; }
  size_t out(size_t s, size_t h, size_t t) const { return ((s * context + t) * heads + h) * head_size; }
  size_t lse(size_t s, size_t h, size_t t) const { return (s * heads + h) * context + t; }

  size_t context, heads, kv_heads, head_size, sequences;
};

double dot(const Values& a, size_t at_a, const Values& b, size_t at_b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[at_a + i] * b[at_b + i];
  return sum;
}

/// y[at_y..] += factor * x[at_x..].
void axpy(Values& y, size_t at_y, double factor, const Values& x, size_t at_x, size_t n) {
  for (size_t i = 0; i < n; ++i) y[at_y + i] += factor * x[at_x + i];
}

/// The scaled scores of one query against every key it sees.
Values scores_of(const AttentionArgs& a, const Layout& at, const Values& qkv, size_t s, size_t h, size_t query) {
  Values scores(a.causal ? query + 1 : at.context);
  for (size_t key = 0; key < scores.size(); ++key) {
    scores[key] = dot(qkv, at.query(s, h, query), qkv, at.key(s, h, key), at.head_size) * static_cast<double>(a.scale);
  }
  return scores;
}

/// 0 for a dropped probability, 1 / (1 - dropout) for a kept one.
double dropout_factor(const AttentionArgs& a, size_t s, size_t h, size_t query, size_t key) {
  if (a.dropout == 0) return 1.0;
  const uint64_t context = static_cast<uint64_t>(a.context), context_up4 = (context + 3) / 4 * 4;
  const uint64_t sequence = static_cast<uint64_t>(a.first_sequence) + s, head = static_cast<uint64_t>(a.first_head) + h;
  const uint64_t word =
      ((sequence * static_cast<uint64_t>(a.heads_total) + head) * context + query) * context_up4 + key;
  return uniform01(random_u32(a.dropout_key, word)) >= a.dropout ? 1.0 / (1.0 - static_cast<double>(a.dropout)) : 0.0;
}

}  // namespace

void ReferenceOps::rope(Stream, const RopeArgs& args) const {
  check(args);
  const size_t rows = static_cast<size_t>(args.qkv.dim[0]), width = static_cast<size_t>(args.qkv.dim[1]);
  const size_t half = static_cast<size_t>(args.head_size) / 2;
  Values qkv = load(args.qkv);
  for (size_t t = 0; t < rows; ++t) {
    const int64_t position = static_cast<int64_t>(t) % args.context;
    for (size_t h = 0; h < static_cast<size_t>(args.heads); ++h) {
      double* head = qkv.data() + t * width + h * 2 * half;
      for (size_t i = 0; i < half; ++i) {
        const double angle = rope_angle(position, static_cast<int64_t>(i), args.head_size, args.theta);
        rotate_pair(head[i], head[i + half], args.inverse ? -angle : angle);
      }
    }
  }
  store(args.qkv, qkv);
}

void ReferenceOps::attention_forward(Stream, const AttentionArgs& args) const {
  check(args);
  const Layout at(args);
  const Values qkv = load(args.qkv);
  Values out(static_cast<size_t>(args.out.numel()), 0.0), lse(static_cast<size_t>(args.lse.numel()));
  for (size_t s = 0; s < at.sequences; ++s) {
    for (size_t h = 0; h < at.heads; ++h) {
      for (size_t query = 0; query < at.context; ++query) {
        const Values scores = scores_of(args, at, qkv, s, h, query);
        const double max = row_max<double>(scores), sum = row_exp_sum<double>(scores, max);
        lse[at.lse(s, h, query)] = max + std::log(sum);
        for (size_t key = 0; key < scores.size(); ++key) {
          const double p = std::exp(scores[key] - max) / sum * dropout_factor(args, s, h, query, key);
          axpy(out, at.out(s, h, query), p, qkv, at.value(s, h, key), at.head_size);
        }
      }
    }
  }
  store(args.out, out);
  store(args.lse, lse);
}

void ReferenceOps::attention_backward(Stream, const AttentionBackwardArgs& args) const {
  check(args);
  const AttentionArgs& f = args.forward;
  const Layout at(f);
  const double scale = static_cast<double>(f.scale);
  const Values qkv = load(f.qkv), out = load(f.out), lse = load(f.lse), dout = load(args.dout);
  Values dqkv(qkv.size(), 0.0);
  for (size_t s = 0; s < at.sequences; ++s) {
    for (size_t h = 0; h < at.heads; ++h) {
      for (size_t query = 0; query < at.context; ++query) {
        const Values scores = scores_of(f, at, qkv, s, h, query);
        const size_t row = at.out(s, h, query);
        const double delta = dot(dout, row, out, row, at.head_size);
        for (size_t key = 0; key < scores.size(); ++key) {
          const double p = std::exp(scores[key] - lse[at.lse(s, h, query)]);
          const double factor = dropout_factor(f, s, h, query, key);
          const double dp = factor * dot(dout, row, qkv, at.value(s, h, key), at.head_size);
          const double ds = p * (dp - delta) * scale;
          axpy(dqkv, at.value(s, h, key), p * factor, dout, row, at.head_size);
          axpy(dqkv, at.query(s, h, query), ds, qkv, at.key(s, h, key), at.head_size);
          axpy(dqkv, at.key(s, h, key), ds, qkv, at.query(s, h, query), at.head_size);
        }
      }
    }
  }
  store(args.dqkv, dqkv);
}

}  // namespace trident::reference
