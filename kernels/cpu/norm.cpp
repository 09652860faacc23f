// LayerNorm and RMSNorm. Forward reads a row three times, out of L1, where a residual that joins has just put it;
// statistics are two-pass, in f32.
// Backward: dx row by row; dw and db are summed over fixed chunks of rows, the chunks added in order afterwards.
//
// Legend: T rows, D hidden, N chunks of rows.
#include <cmath>

#include "kernels/cpu/dropout.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kChunkRows = 64;

int64_t chunk_count(int64_t rows) { return (rows + kChunkRows - 1) / kChunkRows; }

/// Sum over a row of f(i, lanes), where f gives 0 in lanes past the end.
template <class F>
float row_sum(int64_t n, F f) {
  VecF even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += f(i, Whole{});
    odd += f(i + kLanes, Whole{});
  }
  vector_steps(i, n, [&](int64_t j, auto lanes) { even += f(j, lanes); });
  return sum_lanes(even + odd);
}

/// x of one row, where a residual joins: stream + dropout(addend).
template <class T>
void join_row(const NormArgs& args, int64_t t) {
  const int64_t d = args.x_TD.dim[1], at = t * d;
  const T* stream_D = args.stream_TD.defined() ? args.stream_TD.as<T>() + at : nullptr;
  const uint64_t first = static_cast<uint64_t>(args.drop.first_row + t) * static_cast<uint64_t>(d);
  dropout_add_run(args.x_TD.as<T>() + at, stream_D, args.addend_TD.as<T>() + at, d, args.drop, first);
}

template <class T>
void forward_row(const NormArgs& args, int64_t t, const T* w_D, const T* b_D) {
  const int64_t d = args.x_TD.dim[1];
  const T* x_D = args.x_TD.as<T>() + t * d;
  T* y_D = args.y_TD.as<T>() + t * d;
  const bool centred = args.kind == NormKind::layer_norm;
  const float inverse_d = 1.0f / static_cast<float>(d);
  const float mean =
      centred ? row_sum(d, [&](int64_t i, auto lanes) { return load(x_D + i, lanes); }) * inverse_d : 0.0f;
  const float square = row_sum(d, [&](int64_t i, auto lanes) {
    const VecF x = fill_tail(load(x_D + i, lanes) - mean, 0.0f, lanes);
    return x * x;
  });
  const float rstd = 1.0f / std::sqrt(square * inverse_d + args.eps);
  if (centred) args.mean_T.as<float>()[t] = mean;
  args.rstd_T.as<float>()[t] = rstd;
  vector_steps(0, d, [&](int64_t i, auto lanes) {
    VecF y = (load(x_D + i, lanes) - mean) * rstd * load(w_D + i, lanes);
    if (b_D != nullptr) y += load(b_D + i, lanes);
    store(y_D + i, y, lanes);
  });
}

/// dx of one row; adds dy * x_hat to dw_D and, when present, dy to db_D.
template <class T>
void backward_row(const NormBackwardArgs& args, int64_t t, const T* w_D, float* dw_D, float* db_D) {
  const NormArgs& forward = args.forward;
  const int64_t d = forward.x_TD.dim[1];
  const T* x_D = forward.x_TD.as<T>() + t * d;
  const T* dy_D = args.dy_TD.as<T>() + t * d;
  const T* residual_D = args.residual_TD.defined() ? args.residual_TD.as<T>() + t * d : nullptr;
  T* dx_D = args.dx_TD.as<T>() + t * d;
  const bool centred = forward.kind == NormKind::layer_norm;
  const float mean = centred ? forward.mean_T.as<float>()[t] : 0.0f, rstd = forward.rstd_T.as<float>()[t];
  const float inverse_d = 1.0f / static_cast<float>(d);
  const float mean_g =
      centred
          ? row_sum(d, [&](int64_t i, auto lanes) { return load(dy_D + i, lanes) * load(w_D + i, lanes); }) * inverse_d
          : 0.0f;
  const float mean_gx = inverse_d * row_sum(d, [&](int64_t i, auto lanes) {
                          return load(dy_D + i, lanes) * load(w_D + i, lanes) * ((load(x_D + i, lanes) - mean) * rstd);
                        });
  vector_steps(0, d, [&](int64_t i, auto lanes) {
    const VecF dy = load(dy_D + i, lanes);
    const VecF x_hat = (load(x_D + i, lanes) - mean) * rstd;
    VecF dx = rstd * (dy * load(w_D + i, lanes) - mean_g - x_hat * mean_gx);
    if (residual_D != nullptr) dx += load(residual_D + i, lanes);
    store(dx_D + i, dx, lanes);
    store(dw_D + i, load(dw_D + i, lanes) + dy * x_hat, lanes);
    if (db_D != nullptr) store(db_D + i, load(db_D + i, lanes) + dy, lanes);
  });
}

/// total_D += the chunks of partial_ND, in order.
void add_chunks(Tensor total_D, const float* partial_ND, int64_t chunks) {
  const int64_t d = total_D.numel();
  float* total = total_D.as<float>();
  parallel_range((d + kLanes - 1) / kLanes, d * chunks, [&](int64_t begin, int64_t end) {
    vector_steps(begin * kLanes, std::min(end * kLanes, d), [&](int64_t i, auto lanes) {
      VecF sum = load(total + i, lanes);
      for (int64_t n = 0; n < chunks; ++n) sum += load(partial_ND + n * d + i, lanes);
      store(total + i, sum, lanes);
    });
  });
}

}  // namespace

void norm_forward(const NormArgs& args) {
  const int64_t rows = args.x_TD.dim[0];
  with_float(args.x_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    const T* w_D = args.w_D.as<T>();
    const T* b_D = args.b_D.defined() ? args.b_D.as<T>() : nullptr;
    parallel_range(rows, args.x_TD.numel(), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        if (args.addend_TD.defined()) join_row<T>(args, t);
        forward_row<T>(args, t, w_D, b_D);
      }
    });
  });
}

void norm_backward(const NormBackwardArgs& args) {
  const int64_t rows = args.forward.x_TD.dim[0], d = args.forward.x_TD.dim[1], chunks = chunk_count(rows);
  ensure(args.scratch.bytes() >= norm_scratch_bytes(args), "norm_backward: scratch holds scratch_bytes(args)");
  float* dw_ND = static_cast<float*>(args.scratch.data);
  float* db_ND = args.db_D.defined() ? dw_ND + chunks * d : nullptr;
  with_float(args.forward.x_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    const T* w_D = args.forward.w_D.as<T>();
    parallel_range(chunks, rows * d, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        float* dw_D = dw_ND + n * d;
        float* db_D = db_ND == nullptr ? nullptr : db_ND + n * d;
        std::fill(dw_D, dw_D + d, 0.0f);
        if (db_D != nullptr) std::fill(db_D, db_D + d, 0.0f);
        for (int64_t t = n * kChunkRows; t < std::min(rows, (n + 1) * kChunkRows); ++t) {
          backward_row<T>(args, t, w_D, dw_D, db_D);
        }
      }
    });
  });
  add_chunks(args.dw_D, dw_ND, chunks);
  if (db_ND != nullptr) add_chunks(args.db_D, db_ND, chunks);
}

size_t norm_scratch_bytes(const NormBackwardArgs& args) {
  const int64_t rows = args.forward.x_TD.dim[0], d = args.forward.x_TD.dim[1];
  const int64_t sums = args.db_D.defined() ? 2 : 1;
  return static_cast<size_t>(sums * chunk_count(rows) * d) * sizeof(float);
}

}  // namespace trident::cpu
