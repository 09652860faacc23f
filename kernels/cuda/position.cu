// Learned positions, forward and backward: a thread has one position and a pack of columns, and walks over that
// position's tokens in ascending order, so that the table is read and written once.
//
// Legend: T tokens, D hidden, P rows of the table.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/tiles.h"

namespace trident::cuda {
namespace {

/// Which tokens have position p: first_of(p), and then every `context`-th.
struct Walk {
  int64_t tokens, context;
  int64_t offset;  ///< the position of token 0

  SIMT_DEV int64_t first_of(int64_t position) const {
    return position >= offset ? position - offset : position - offset + context;
  }
};

/// y_TD[t] += table_PD[position of t].
template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    position_forward_kernel(T* y_TD, const T* table_PD, Walk walk, Tiling tiling) {
  const int64_t column = tiling.column<kWidth>(), position = tiling.down() * kTileRows + tile_row();
  if (column >= tiling.columns || position >= walk.context) return;
  const Pack<T, kWidth> entry = Pack<T, kWidth>::load(table_PD + position * tiling.columns + column);
#pragma unroll 4
  for (int64_t t = walk.first_of(position); t < walk.tokens; t += walk.context) {
    T* at = y_TD + t * tiling.columns + column;
    Pack<T, kWidth> y = Pack<T, kWidth>::load(at);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) y.value[j] += entry.value[j];
    y.store(at);
  }
}

/// dtable_PD[position of t] += dy_TD[t].
template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    position_backward_kernel(float* dtable_PD, const T* dy_TD, Walk walk, Tiling tiling) {
  const int64_t column = tiling.column<kWidth>(), position = tiling.down() * kTileRows + tile_row();
  if (column >= tiling.columns || position >= walk.context) return;
  const int64_t first = walk.first_of(position);
  if (first >= walk.tokens) return;  // spares the table's entry, which nothing is added to
  float* entry = dtable_PD + position * tiling.columns + column;
  Pack<float, kWidth> sum = Pack<float, kWidth>::load(entry);
#pragma unroll 4
  for (int64_t t = first; t < walk.tokens; t += walk.context) {
    const Pack<T, kWidth> dy = Pack<T, kWidth>::load(dy_TD + t * tiling.columns + column);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum.value[j] += dy.value[j];
  }
  sum.store(entry);
}

/// Submits one of the kernels: a tile has 8 positions.
template <class... P, class... A>
void launch_walk(cudaStream_t stream, const char* operation, void (*kernel)(P...), int width, const Tensor& rows_TD,
                 int64_t first_row, int64_t context, A... tables) {
  const Tiling tiling(rows_TD.dim[1], width);
  const Walk walk{rows_TD.dim[0], context, first_row % context};
  check_launch(simt::launch(kernel, tiling.grid(ceil_div(context, kTileRows)), dim3(kTileThreads), 0, stream, tables...,
                            walk, tiling),
               operation);
}

}  // namespace

void position_forward(cudaStream_t stream, Tensor y_TD, Tensor table_PD, int64_t first_row, int64_t context) {
  if (y_TD.numel() == 0) return;
  with_float(y_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = vectorizable(y_TD, y_TD.dim[1]) && vectorizable(table_PD, y_TD.dim[1]);
    constexpr int kWidth = kPerVector<T>;
    launch_walk(stream, "position_forward", wide ? position_forward_kernel<T, kWidth> : position_forward_kernel<T, 1>,
                wide ? kWidth : 1, y_TD, first_row, context, at<T>(y_TD), at<const T>(table_PD));
  });
}

void position_backward(cudaStream_t stream, Tensor dtable_PD, Tensor dy_TD, int64_t first_row, int64_t context) {
  if (dy_TD.numel() == 0) return;
  with_float(dy_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = vectorizable(dy_TD, dy_TD.dim[1]) && vectorizable(dtable_PD, dy_TD.dim[1]);
    constexpr int kWidth = kCommonWidth<T, float>;
    launch_walk(stream, "position_backward",
                wide ? position_backward_kernel<T, kWidth> : position_backward_kernel<T, 1>, wide ? kWidth : 1, dy_TD,
                first_row, context, at<float>(dtable_PD), at<const T>(dy_TD));
  });
}

}  // namespace trident::cuda
