// Token embedding. Forward is a gather, a warp a token. Backward adds tokens' rows to their ids' rows of the table, for
// each id in ascending order of tokens, in two kernels:
//   1. order: a stable sort of the tokens by table row. A token's place is the number of tokens that go before it,
//      counted by comparing with all of them. That is T^2 comparisons, but of two instructions and out of shared
//      memory: little beside the rows for the thousands of tokens of a micro-batch, and one kernel without atomics.
//   2. sum: the warps whose place begins a run of equal rows add that run up in registers and write the row once.
//
// Legend: T tokens, D hidden, V vocabulary rows on this rank.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// y_TD[t] = table_VD[id - first_id], bit for bit, or 0.
template <class T, bool kWide>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(T* y_TD, const int32_t* id_T, const T* table_VD, int64_t tokens, int64_t width, int64_t rows,
                  int64_t first_id) {
  constexpr int kWidth = kWide ? kPerVector<T> : 1;
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (token >= tokens) return;
  const int64_t row = int64_t{id_T[token]} - first_id;
  const bool here = row >= 0 && row < rows;
#pragma unroll 4
  for (int64_t column = threadIdx.x % 32 * kWidth; column < width; column += 32 * kWidth) {
    T* to = y_TD + token * width + column;
    const T* from = table_VD + row * width + column;
    if constexpr (kWide) {
      simt::st128(to, here ? simt::ld128(from) : uint4{0, 0, 0, 0});
    } else {
      *to = here ? *from : from_float<T>(0.0f);
    }
  }
}

/// The table row of token t, `rows` for every id of another rank.
SIMT_DEV int32_t row_of(const int32_t* id_T, int64_t t, int64_t rows, int64_t first_id) {
  const int64_t row = int64_t{id_T[t]} - first_id;
  return static_cast<int32_t>(row >= 0 && row < rows ? row : rows);
}

/// row_T, token_T: the tokens sorted by table row, equal rows in ascending order of tokens.
__global__ void __launch_bounds__(kThreads) order_kernel(int32_t* row_T, int32_t* token_T, const int32_t* id_T,
                                                         int64_t tokens, int64_t rows, int64_t first_id) {
  constexpr int32_t kLast = 0x7fffffff;
  __shared__ int4 other4[kThreads / 4];
  int32_t* other = &other4[0].x;
  const int me = static_cast<int>(threadIdx.x);
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + me;
  const int32_t mine = token < tokens ? row_of(id_T, token, rows, first_id) : 0;
  int32_t place = 0;
  for (int64_t tile = 0; tile * kThreads < tokens; ++tile) {
    const int64_t t = tile * kThreads + me;
    other[me] = t < tokens ? row_of(id_T, t, rows, first_id) : kLast;
    __syncthreads();
    // Equal rows of earlier tokens go before: all of them in earlier tiles, none in later ones.
    if (tile == blockIdx.x) {
      for (int j = 0; j < kThreads; ++j) place += other[j] < mine + (j < me ? 1 : 0);
    } else {
      const int32_t limit = mine + (tile < blockIdx.x ? 1 : 0);
#pragma unroll 8
      for (int j = 0; j < kThreads / 4; ++j) {
        const int4 row = other4[j];
        place += (row.x < limit) + (row.y < limit) + (row.z < limit) + (row.w < limit);
      }
    }
    __syncthreads();
  }
  if (token >= tokens) return;
  row_T[place] = mine;
  token_T[place] = static_cast<int32_t>(token);
}

/// Packs of columns that a lane of run_sum_kernel takes, 32 packs apart: few warps then share the run's list.
constexpr int kPacks = 4;

/// dtable_VD[row] += the dy_TD of its tokens. A warp takes 32 * kPacks packs of columns of the run that begins at its
/// place, should one begin there.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    run_sum_kernel(float* dtable_VD, const int32_t* row_T, const int32_t* token_T, const T* dy_TD, int64_t tokens,
                   int64_t width, int64_t rows, unsigned across) {
  const int64_t place = int64_t{blockIdx.x / across} * kWarps + threadIdx.x / 32;
  if (place >= tokens) return;
  const int32_t row = row_T[place];
  if (row >= rows || (place > 0 && row_T[place - 1] == row)) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t column = (int64_t{blockIdx.x % across} * (32 * kPacks) + lane) * kWidth;
  float* entry = dtable_VD + row * width + column;
  Pack<float, kWidth> sum[kPacks] = {};
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (column + k * 32 * kWidth < width) sum[k] = Pack<float, kWidth>::load(entry + k * 32 * kWidth);
  }
  // Most runs are short: the first look at the list takes one sector of it.
  int look = 8, run = look;
  for (int64_t begin = place; run == look; begin += run) {
    look = begin == place ? 8 : 32;
    const int64_t at = begin + lane;
    const bool same = lane < look && at < tokens && row_T[at] == row;
    const int32_t mine = same ? token_T[at] : 0;
    run = __popc(__ballot_sync(kWarp, same));  // equal rows lie together: the first lanes have them
#pragma unroll 2
    for (int t = 0; t < run; ++t) {
      const T* dy_D = dy_TD + __shfl_sync(kWarp, mine, t) * width + column;
#pragma unroll
      for (int k = 0; k < kPacks; ++k) {
        if (column + k * 32 * kWidth >= width) break;
        const Pack<T, kWidth> dy = Pack<T, kWidth>::load(dy_D + k * 32 * kWidth);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) sum[k].value[j] += dy.value[j];
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kPacks; ++k) {
    if (column + k * 32 * kWidth < width) sum[k].store(entry + k * 32 * kWidth);
  }
}

}  // namespace

void embedding_forward(cudaStream_t stream, Tensor y_TD, Tensor id_T, Tensor table_VD, int64_t first_id) {
  const int64_t tokens = y_TD.dim[0], width = y_TD.dim[1];
  if (y_TD.numel() == 0) return;
  with_float(y_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = vectorizable(y_TD, width) && vectorizable(table_VD, width);
    const dim3 grid(static_cast<unsigned>(ceil_div(tokens, kWarps)));
    check_launch(simt::launch(wide ? gather_kernel<T, true> : gather_kernel<T, false>, grid, dim3(kThreads), 0, stream,
                              at<T>(y_TD), at<const int32_t>(id_T), at<const T>(table_VD), tokens, width,
                              table_VD.dim[0], first_id),
                 "embedding_forward");
  });
}

void embedding_backward(cudaStream_t stream, Tensor dtable_VD, Tensor id_T, Tensor dy_TD, int64_t first_id,
                        Tensor scratch) {
  const int64_t tokens = dy_TD.dim[0], width = dy_TD.dim[1], rows = dtable_VD.dim[0];
  if (dy_TD.numel() == 0) return;
  ensure(scratch.defined() && scratch.bytes() >= embedding_scratch_bytes(tokens, rows),
         "embedding_backward has its scratch");
  ensure(tokens < INT32_MAX && rows < INT32_MAX - 1, "embedding_backward counts tokens and rows in 32 bits");
  int32_t *row_T = at<int32_t>(scratch), *token_T = row_T + tokens;
  check_launch(simt::launch(order_kernel, dim3(static_cast<unsigned>(ceil_div(tokens, kThreads))), dim3(kThreads), 0,
                            stream, row_T, token_T, at<const int32_t>(id_T), tokens, rows, first_id),
               "embedding_backward");
  with_float(dy_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kWide = kCommonWidth<T, float>;
    const bool wide = vectorizable(dtable_VD, width) && vectorizable(dy_TD, width);
    const auto across = static_cast<unsigned>(ceil_div(width, 32 * kPacks * (wide ? kWide : 1)));
    check_launch(simt::launch(wide ? run_sum_kernel<T, kWide> : run_sum_kernel<T, 1>,
                              dim3(static_cast<unsigned>(ceil_div(tokens, kWarps) * across)), dim3(kThreads), 0, stream,
                              at<float>(dtable_VD), static_cast<const int32_t*>(row_T),
                              static_cast<const int32_t*>(token_T), at<const T>(dy_TD), tokens, width, rows, across),
                 "embedding_backward");
  });
}

}  // namespace trident::cuda
