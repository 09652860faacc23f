// The bias of a linear layer, added and differentiated.
//
// bias_backward sums columns in two stages, both in a fixed order: a block sums a slab of rows (each of its 8 row
// threads every eighth row, then the 8 in turn), and the slabs' sums, kept in scratch, are summed the same way. A
// matrix of one slab needs one stage and no scratch.
//
// Legend: T tokens, N columns, S slabs.
#include "kernels/cuda/families.h"
#include "kernels/cuda/tiles.h"

namespace trident::cuda {
namespace {

/// Rows that share one load of the bias: it then adds a sixteenth to the traffic.
constexpr int kAddRows = 8;

template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads) bias_add_kernel(T* x_TN, const T* b_N, int64_t rows, Tiling tiling) {
  const int64_t column = tiling.column<kWidth>();
  if (column >= tiling.columns) return;
  const Pack<T, kWidth> b = Pack<T, kWidth>::load(b_N + column);
  const int64_t first = tiling.down() * (kTileRows * kAddRows) + tile_row();
#pragma unroll 4
  for (int k = 0; k < kAddRows; ++k) {
    const int64_t row = first + k * kTileRows;
    if (row >= rows) break;
    T* at = x_TN + row * tiling.columns + column;
    Pack<T, kWidth> x = Pack<T, kWidth>::load(at);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x.value[j] += b.value[j];
    x.store(at);
  }
}

/// sum_SN[s] = column sums of slab s, or += with `accumulate`.
template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    column_sum_kernel(float* sum_SN, const T* x_TN, int64_t rows, int64_t slab_rows, Tiling tiling, bool accumulate) {
  // Column j of every pack lies together, so that neighbouring lanes store to neighbouring banks; the padding moves
  // each j by as many banks as a warp reads of it below.
  constexpr int kPitch = kTileLanes + (kWidth == 1 ? 0 : 32 / kWidth);
  __shared__ float partial[kTileRows][kWidth * kPitch];
  const int64_t column = tiling.column<kWidth>();
  const int64_t begin = tiling.down() * slab_rows, end = begin + slab_rows < rows ? begin + slab_rows : rows;
  Pack<float, kWidth> sum{};
  if (column < tiling.columns) {
#pragma unroll 4
    for (int64_t row = begin + tile_row(); row < end; row += kTileRows) {
      const Pack<T, kWidth> x = Pack<T, kWidth>::load(x_TN + row * tiling.columns + column);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sum.value[j] += x.value[j];
    }
  }
#pragma unroll
  for (int j = 0; j < kWidth; ++j) partial[tile_row()][j * kPitch + threadIdx.x % kTileLanes] = sum.value[j];
  __syncthreads();
  const int mine = static_cast<int>(threadIdx.x);
  const int64_t out = static_cast<int64_t>(blockIdx.x % tiling.across) * (kTileLanes * kWidth) + mine;
  if (mine >= kTileLanes * kWidth || out >= tiling.columns) return;
  float total = 0;
#pragma unroll
  for (int row = 0; row < kTileRows; ++row) total += partial[row][mine % kWidth * kPitch + mine / kWidth];
  float* at = sum_SN + tiling.down() * tiling.columns + out;
  *at = accumulate ? *at + total : total;
}

template <class T>
void column_sums(cudaStream_t stream, float* sum_SN, Tensor x_TN, int64_t slab_rows, bool accumulate) {
  const int64_t rows = x_TN.dim[0], columns = x_TN.dim[1];
  const auto run = [&](auto kernel, int width) {
    const Tiling tiling(columns, width);
    check_launch(simt::launch(kernel, tiling.grid(ceil_div(rows, slab_rows)), dim3(kTileThreads), 0, stream, sum_SN,
                              at<const T>(x_TN), rows, slab_rows, tiling, accumulate),
                 "bias_backward");
  };
  if (vectorizable(x_TN, columns)) {
    run(column_sum_kernel<T, kPerVector<T>>, kPerVector<T>);
  } else {
    run(column_sum_kernel<T, 1>, 1);
  }
}

}  // namespace

void bias_add(cudaStream_t stream, Tensor x_TN, Tensor b_N) {
  const int64_t rows = x_TN.dim[0], columns = x_TN.dim[1];
  if (x_TN.numel() == 0) return;
  with_float(x_TN.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto run = [&](auto kernel, int width) {
      const Tiling tiling(columns, width);
      check_launch(simt::launch(kernel, tiling.grid(ceil_div(rows, kTileRows * kAddRows)), dim3(kTileThreads), 0,
                                stream, at<T>(x_TN), at<const T>(b_N), rows, tiling),
                   "bias_add");
    };
    if (vectorizable(x_TN, columns) && vectorizable(b_N, columns)) {
      run(bias_add_kernel<T, kPerVector<T>>, kPerVector<T>);
    } else {
      run(bias_add_kernel<T, 1>, 1);
    }
  });
}

void bias_backward(cudaStream_t stream, Tensor db_N, Tensor dy_TN, Tensor scratch) {
  const int64_t rows = dy_TN.dim[0], columns = dy_TN.dim[1];
  if (dy_TN.numel() == 0) return;
  const int64_t slab_rows = bias_slab_rows(rows), slabs = ceil_div(rows, slab_rows);
  with_float(dy_TN.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (slabs == 1) {
      column_sums<T>(stream, at<float>(db_N), dy_TN, slab_rows, true);
      return;
    }
    ensure(scratch.defined() && scratch.bytes() >= bias_scratch_bytes(rows, columns), "bias_backward has its scratch");
    const Tensor sum_SN(scratch.data, DType::f32, {slabs, columns}, scratch.place);
    column_sums<T>(stream, at<float>(sum_SN), dy_TN, slab_rows, false);
    column_sums<float>(stream, at<float>(db_N), sum_SN, slabs, true);
  });
}

}  // namespace trident::cuda
