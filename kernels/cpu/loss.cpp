// The three passes of vocabulary-parallel softmax cross-entropy, one row a thread at a time.
#include <cmath>
#include <limits>

#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

/// Calls body(t, logits of row t) for every row, in parallel.
template <class T, class Body>
void parallel_rows(Tensor logits_TV, Body body) {
  const int64_t rows = logits_TV.dim[0], columns = logits_TV.dim[1];
  T* logits = logits_TV.as<T>();
  parallel_range(rows, rows * columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) body(t, logits + t * columns);
  });
}

/// Sum of exp(logit - max): runs of 1024 in f32, the runs in double.
template <class T>
float sum_exp(const T* logit_V, int64_t n, float max_logit) {
  constexpr int64_t kRun = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kRun) {
    VecF sum = {};
    vector_steps(begin, std::min(n, begin + kRun), [&](int64_t i, auto lanes) {
      sum += fill_tail(exp_term(load(logit_V + i, lanes) - max_logit), 0.0f, lanes);
    });
    total += static_cast<double>(sum_lanes(sum));
  }
  return static_cast<float>(total);
}

}  // namespace

int64_t softmax_rows(Tensor logits_TV) {
  constexpr int64_t kThreadBytes = 512 << 10;  // less than the second level of any processor's caches
  const int64_t row_bytes = logits_TV.row_size() * static_cast<int64_t>(dtype_bytes(logits_TV.dtype));
  return team_size(logits_TV.dim[0], logits_TV.numel()) * std::max<int64_t>(1, kThreadBytes / row_bytes);
}

void softmax_max(Tensor max_T, Tensor logits_TV, int64_t valid) {
  float* max_out = max_T.as<float>();
  with_float(logits_TV.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    parallel_rows<T>(logits_TV, [&](int64_t t, const T* logit_V) {
      // Four chains hide a maximum's latency.
      VecF largest[4];
      for (VecF& chain : largest) chain = broadcast(kMinusInf);
      int64_t i = 0;
      for (; i + 4 * kLanes <= valid; i += 4 * kLanes) {
        fetch_ahead(logit_V + i), fetch_ahead(logit_V + i + 2 * kLanes);
        for (int k = 0; k < 4; ++k) largest[k] = max(largest[k], load(logit_V + i + k * kLanes));
      }
      vector_steps(i, valid, [&](int64_t j, auto lanes) {
        largest[0] = max(largest[0], fill_tail(load(logit_V + j, lanes), kMinusInf, lanes));
      });
      max_out[t] = max_lanes(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
    });
  });
}

void softmax_sum(Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T, int64_t first_id,
                 int64_t valid) {
  float *sum = sum_T.as<float>(), *target = target_T.as<float>();
  const float* max_logit = max_T.as<float>();
  const int32_t* id_of = id_T.as<int32_t>();
  with_float(logits_TV.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    parallel_rows<T>(logits_TV, [&](int64_t t, const T* logit_V) {
      sum[t] = sum_exp(logit_V, valid, max_logit[t]);
      const int64_t id = id_of[t], column = id - first_id;
      const bool here = id >= 0 && column >= 0 && column < valid;
      target[t] = here ? static_cast<float>(logit_V[column]) - max_logit[t] : 0.0f;
    });
  });
}

void softmax_loss(Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T, Tensor id_T,
                  int64_t first_id, int64_t valid, bool gradient) {
  float* loss = loss_T.as<float>();
  const float *max_logit = max_T.as<float>(), *sum = sum_T.as<float>(), *target = target_T.as<float>();
  const int32_t* id_of = id_T.as<int32_t>();
  const int64_t columns = logits_TV.dim[1];
  // Rows that a cache holds are some of more: while these are computed, memory brings the next ones.
  const int64_t next = logits_TV.dim[0] <= softmax_rows(logits_TV) ? logits_TV.numel() : 0;
  with_float(logits_TV.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    parallel_rows<T>(logits_TV, [&](int64_t t, T* logit_V) {
      const int64_t id = id_of[t], column = id - first_id;
      loss[t] = id < 0 ? 0.0f : std::log(sum[t]) - target[t];
      if (!gradient) return;
      if (id < 0) {
        std::fill(logit_V, logit_V + columns, T(0.0f));
        return;
      }
      const float inverse = 1.0f / sum[t], max_t = max_logit[t];
      // Below, the probability would be denormal: that takes 170 cycles here, and slows the products down that read it.
      const float least = std::max(0.0f, std::log(sum[t])) - 87.336f;
      const bool here = column >= 0 && column < valid;
      // From f32: the target's probability would be rounded twice if 1 were taken off the stored value.
      const float target_logit = here ? static_cast<float>(logit_V[column]) : 0.0f;
      const auto probability = [&](int64_t i, auto lanes) {
        return exp_term(load(logit_V + i, lanes) - max_t, least) * inverse;
      };
      int64_t i = 0;
      for (; i + 2 * kLanes <= valid; i += 2 * kLanes) {
        const T* next_i = logit_V + next + i;
        __builtin_prefetch(next_i, 0, 2), __builtin_prefetch(next_i + kLanes, 0, 2);
        store_pair(logit_V + i, probability(i, Whole{}), probability(i + kLanes, Whole{}));
      }
      vector_steps(i, valid, [&](int64_t j, auto lanes) { store(logit_V + j, probability(j, lanes), lanes); });
      std::fill(logit_V + valid, logit_V + columns, T(0.0f));
      if (here) logit_V[column] = T(exp_term(broadcast(target_logit - max_t), least)[0] * inverse - 1.0f);
    });
  });
}

}  // namespace trident::cpu
