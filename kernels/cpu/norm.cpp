// LayerNorm and RMSNorm. A row is widened to f32 once, into a buffer in L1 that all passes over it read; so are the
// weights, once a call. Statistics are two-pass, in f32.
// Backward: dx row by row; dw and db are summed over fixed chunks of rows, the chunks added in order afterwards.
//
// Legend: T rows, D hidden, N chunks of rows.
#include <cmath>
#include <type_traits>

#include "kernels/cpu/dropout.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kChunkRows = 64;

int64_t chunk_count(int64_t rows) { return ceil_div(rows, kChunkRows); }

/// Widest row, and what a config allows: buffers are on the stack, which is touched as far as rows reach.
constexpr int64_t kMaxRow = 65536;

/// A row as f32: itself, or `room_D` with its numbers.
template <class T>
const float* widened(const T* row_D, int64_t d, float* room_D) {
  if constexpr (std::is_same_v<T, float>) return row_D;
  vector_steps(0, d, [&](int64_t i, auto lanes) {
    fetch_ahead(row_D + i);
    store(room_D + i, load(row_D + i, lanes), lanes);
  });
  return room_D;
}

/// Sum over a row of f(i, lanes), where f gives 0 in lanes past the end. Four chains hide an addition's latency.
template <class F>
float row_sum(int64_t n, F f) {
  VecF sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) sum[k] += f(i + k * kLanes, Whole{});
  }
  vector_steps(i, n, [&](int64_t j, auto lanes) { sum[0] += f(j, lanes); });
  return sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/// x of one row, where a residual joins: stream + dropout(addend).
template <class T>
void join_row(const NormArgs& args, int64_t t) {
  const int64_t d = args.x_TD.dim[1], at = t * d;
  const T* stream_D = args.stream_TD.defined() ? args.stream_TD.as<T>() + at : nullptr;
  const uint64_t first = static_cast<uint64_t>(args.drop.first_row + t) * static_cast<uint64_t>(d);
  dropout_add_run(args.x_TD.as<T>() + at, stream_D, args.addend_TD.as<T>() + at, d, args.drop, first);
}

/// y of row t from its x, and its statistics. `w_D` and `b_D` (or nullptr) are the weights.
template <class T>
void forward_row(const NormArgs& args, int64_t t, const float* x_D, const float* w_D, const float* b_D) {
  const int64_t d = args.x_TD.dim[1];
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

template <class T>
void forward_rows(const NormArgs& args, int64_t begin, int64_t end) {
  const int64_t d = args.x_TD.dim[1];
  float w_room[kMaxRow], b_room[kMaxRow], x_room[kMaxRow];
  const float* w_D = widened(args.w_D.as<T>(), d, w_room);
  const float* b_D = args.b_D.defined() ? widened(args.b_D.as<T>(), d, b_room) : nullptr;
  for (int64_t t = begin; t < end; ++t) {
    if (args.addend_TD.defined()) join_row<T>(args, t);
    forward_row<T>(args, t, widened(args.x_TD.as<T>() + t * d, d, x_room), w_D, b_D);
  }
}

/// What the second pass over a row needs of the first.
struct BackwardRow {
  float g_D[kMaxRow], x_hat_D[kMaxRow];  ///< dy * w, and the normalized x
};

/// dx of one row; adds dy * x_hat to dw_D and, when present, dy to db_D.
template <class T>
void backward_row(const NormBackwardArgs& args, int64_t t, const float* w_D, float* dw_D, float* db_D,
                  BackwardRow& row) {
  const NormArgs& forward = args.forward;
  const int64_t d = forward.x_TD.dim[1];
  const T* x_D = forward.x_TD.as<T>() + t * d;
  const T* dy_D = args.dy_TD.as<T>() + t * d;
  const T* residual_D = args.residual_TD.defined() ? args.residual_TD.as<T>() + t * d : nullptr;
  T* dx_D = args.dx_TD.as<T>() + t * d;
  const bool centred = forward.kind == NormKind::layer_norm;
  const float mean = centred ? forward.mean_T.as<float>()[t] : 0.0f, rstd = forward.rstd_T.as<float>()[t];
  VecF sum_g = {}, sum_gx = {};
  vector_steps(0, d, [&](int64_t i, auto lanes) {
    fetch_ahead(dy_D + i), fetch_ahead(x_D + i);
    if (residual_D != nullptr) fetch_ahead(residual_D + i);
    const VecF dy = load(dy_D + i, lanes), g = dy * load(w_D + i, lanes);
    const VecF x_hat = (load(x_D + i, lanes) - mean) * rstd;
    sum_g += g;  // lanes past the end: dy and w are 0 there
    sum_gx += g * x_hat;
    store(row.g_D + i, g, lanes);
    store(row.x_hat_D + i, x_hat, lanes);
    store(dw_D + i, load(dw_D + i, lanes) + dy * x_hat, lanes);
    if (db_D != nullptr) store(db_D + i, load(db_D + i, lanes) + dy, lanes);
  });
  const float inverse_d = 1.0f / static_cast<float>(d);
  const float mean_g = centred ? sum_lanes(sum_g) * inverse_d : 0.0f, mean_gx = sum_lanes(sum_gx) * inverse_d;
  vector_steps(0, d, [&](int64_t i, auto lanes) {
    VecF dx = rstd * (load(row.g_D + i, lanes) - mean_g - load(row.x_hat_D + i, lanes) * mean_gx);
    if (residual_D != nullptr) dx += load(residual_D + i, lanes);
    store(dx_D + i, dx, lanes);
  });
}

/// Chunk n of rows; its sums go to dw_D and, when present, db_D.
template <class T>
void backward_chunk(const NormBackwardArgs& args, int64_t n, const float* w_D, float* dw_D, float* db_D,
                    BackwardRow& row) {
  const int64_t rows = args.forward.x_TD.dim[0], d = args.forward.x_TD.dim[1];
  std::fill(dw_D, dw_D + d, 0.0f);
  if (db_D != nullptr) std::fill(db_D, db_D + d, 0.0f);
  for (int64_t t = n * kChunkRows; t < std::min(rows, (n + 1) * kChunkRows); ++t) {
    backward_row<T>(args, t, w_D, dw_D, db_D, row);
  }
}

/// total_D += the chunks of partial_ND, in order.
void add_chunks(Tensor total_D, const float* partial_ND, int64_t chunks) {
  const int64_t d = total_D.numel();
  float* total = total_D.as<float>();
  parallel_range(ceil_div(d, kLanes), d * chunks, [&](int64_t begin, int64_t end) {
    vector_steps(begin * kLanes, std::min(end * kLanes, d), [&](int64_t i, auto lanes) {
      VecF sum = load(total + i, lanes);
      for (int64_t n = 0; n < chunks; ++n) sum += load(partial_ND + n * d + i, lanes);
      store(total + i, sum, lanes);
    });
  });
}

}  // namespace

void norm_forward(const NormArgs& args) {
  ensure(args.x_TD.dim[1] <= kMaxRow, "norm: rows are at most 65536 wide");
  with_float(args.x_TD.dtype, [&](auto tag) {
    parallel_range(args.x_TD.dim[0], args.x_TD.numel(),
                   [&](int64_t begin, int64_t end) { forward_rows<TypeOf<decltype(tag)>>(args, begin, end); });
  });
}

void norm_backward(const NormBackwardArgs& args) {
  const int64_t rows = args.forward.x_TD.dim[0], d = args.forward.x_TD.dim[1], chunks = chunk_count(rows);
  ensure(d <= kMaxRow, "norm: rows are at most 65536 wide");
  ensure(args.scratch.bytes() >= norm_scratch_bytes(args), "norm_backward: scratch holds scratch_bytes(args)");
  float* dw_ND = static_cast<float*>(args.scratch.data);
  float* db_ND = args.db_D.defined() ? dw_ND + chunks * d : nullptr;
  with_float(args.forward.x_TD.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    parallel_range(chunks, rows * d, [&](int64_t begin, int64_t end) {
      BackwardRow row;
      float w_room[kMaxRow];
      const float* w_D = widened(args.forward.w_D.as<T>(), d, w_room);
      for (int64_t n = begin; n < end; ++n) {
        backward_chunk<T>(args, n, w_D, dw_ND + n * d, db_ND == nullptr ? nullptr : db_ND + n * d, row);
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
