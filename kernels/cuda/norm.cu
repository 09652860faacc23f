// LayerNorm and RMSNorm: a block per row, its size chosen by D; a block takes every gridDim-th row.
//
// Forward holds the row in registers: memory is read once, the statistics are two-pass (mean, then centred squares).
// Backward holds x_hat and dy; each block adds its rows' dw and db up in shared memory, where a thread owns its
// columns, and writes them to scratch; a second kernel adds the blocks' sums in order. The number of blocks depends on
// the shape only, so the order of every sum does too. Rows too long for that, and rows whose address or length forbids
// 16-byte accesses, are read again in each pass (the cache has them), and their dw and db are added up in scratch.
//
// Legend: T rows, D columns, N blocks of the backward kernel, 2 of [dw, db].
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {
namespace {

/// Who owns what of a row: pack i of a thread begins at column (i * kThreads + thread) * kVec. With kPacks = 0 their
/// number is open, and nothing is held.
template <class Element, int kThreadsOf, int kVecOf, int kPacksOf>
struct Shape {
  using T = Element;
  static constexpr int kThreads = kThreadsOf, kVec = kVecOf, kPacks = kPacksOf;
  static constexpr bool kHeld = kPacks > 0;
  /// True when registers are left for rows beside the one or two that the kernel works on.
  static constexpr bool kRoomy = kHeld && kPacks * kVec <= 16;

  /// Calls f(pack, column) for this thread's packs of a row.
  template <class F>
  SIMT_DEV static void for_packs(int width, F f) {
    const int first = static_cast<int>(threadIdx.x) * kVec;
    if constexpr (kHeld) {
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
        const int col = first + i * kThreads * kVec;
        if (col < width) f(i, col);
      }
    } else {
      for (int col = first; col < width; col += kThreads * kVec) f(0, col);
    }
  }
};

/// This thread's elements of a row: read at once when `kept`, else each time they are asked for.
template <class S, bool kept = S::kHeld>
struct Row {
  using Values = Pack<typename S::T, S::kVec>;
  Values pack[kept ? S::kPacks : 1];
  const typename S::T* row_D = nullptr;

  SIMT_DEV void read(const typename S::T* from_D, int width) {
    row_D = from_D;
    if constexpr (kept) S::for_packs(width, [&](int i, int col) { pack[i] = Values::load(from_D + col); });
  }
  SIMT_DEV Values get(int i, int col) const {
    if constexpr (kept) {
      return pack[i];
    } else {
      return Values::load(row_D + col);
    }
  }
};

/// The sums of a and b over the block, at every thread, in a fixed order. `shared` may be used again after the next
/// barrier; one warp needs none.
template <int kThreads>
SIMT_DEV float2 block_sums(float a, float b, float2* shared) {
  float2 total = make_float2(warp_sum(a), warp_sum(b));
  if constexpr (kThreads > 32) {
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = total;
    __syncthreads();
    total = shared[0];
#pragma unroll
    for (int i = 1; i < kThreads / 32; ++i) {
      total.x += shared[i].x;
      total.y += shared[i].y;
    }
  }
  return total;
}

template <class T>
struct Forward {
  T* y_TD;
  float *mean_T, *rstd_T;  ///< mean: null for RMSNorm
  T* x_TD;
  const T *w_D, *b_D;
  const T *stream_TD, *addend_TD;  ///< where addend is given, x is an output
  Dropout drop;
  float eps, inverse_width;
  int64_t rows;
  int width;
};

/// Writes x = stream + dropout(addend), and holds what it wrote.
template <class S>
SIMT_DEV void join(const Forward<typename S::T>& f, int64_t row, Row<S>& x) {
  using T = typename S::T;
  const int64_t at = row * f.width;
  Row<S> addend, stream;
  addend.read(f.addend_TD + at, f.width);
  if (f.stream_TD != nullptr) stream.read(f.stream_TD + at, f.width);
  T* x_D = f.x_TD + at;
  x.row_D = x_D;
  S::for_packs(f.width, [&](int i, int col) {
    const Pack<float, S::kVec> factor = dropout_factors<S::kVec>(f.drop, at + col);
    Pack<T, S::kVec> out = addend.get(i, col);
    if (f.stream_TD != nullptr) {
      const Pack<T, S::kVec> before = stream.get(i, col);
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) out.value[j] = residual_sum(before.value[j], out.value[j], factor.value[j]);
    } else {
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) out.value[j] *= factor.value[j];
    }
    out.store(x_D + col);
    if constexpr (S::kHeld) {
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) x.pack[i].value[j] = to_float(from_float<T>(out.value[j]));
    }
  });
}

template <class S>
__global__ void __launch_bounds__(S::kThreads) forward_kernel(Forward<typename S::T> f) {
  using Values = Pack<typename S::T, S::kVec>;
  // Sums alternate between two buffers: a thread that writes one knows that the other has been read.
  __shared__ float2 shared[2][S::kThreads / 32];
  const bool centred = f.mean_T != nullptr;
  Row<S, S::kRoomy> w, b;
  w.read(f.w_D, f.width);
  if (f.b_D != nullptr) b.read(f.b_D, f.width);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < f.rows; row += gridDim.x) {
    Row<S> x;
    if (f.addend_TD != nullptr) {
      join(f, row, x);
    } else {
      x.read(f.x_TD + row * f.width, f.width);
    }
    float mean = 0, square = 0;
    if (centred) {
      float sum = 0;
      S::for_packs(f.width, [&](int i, int col) {
        const Values v = x.get(i, col);
#pragma unroll
        for (int j = 0; j < S::kVec; ++j) sum += v.value[j];
      });
      mean = block_sums<S::kThreads>(sum, 0.0f, shared[turn]).x * f.inverse_width;
      turn ^= 1;
    }
    S::for_packs(f.width, [&](int i, int col) {
      const Values v = x.get(i, col);
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) square += (v.value[j] - mean) * (v.value[j] - mean);
    });
    const float rstd = rsqrtf(block_sums<S::kThreads>(square, 0.0f, shared[turn]).x * f.inverse_width + f.eps);
    turn ^= 1;
    if (threadIdx.x == 0) {
      if (centred) f.mean_T[row] = mean;
      f.rstd_T[row] = rstd;
    }
    S::for_packs(f.width, [&](int i, int col) {
      Values y = x.get(i, col);
      const Values scale = w.get(i, col);
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) y.value[j] = (y.value[j] - mean) * rstd * scale.value[j];
      if (f.b_D != nullptr) {
        const Values shift = b.get(i, col);
#pragma unroll
        for (int j = 0; j < S::kVec; ++j) y.value[j] += shift.value[j];
      }
      y.store(f.y_TD + row * f.width + col);
    });
  }
}

template <class T>
struct Backward {
  T* dx_TD;
  const T *dy_TD, *residual_TD, *x_TD, *w_D;
  const float *mean_T, *rstd_T;
  float *dw_ND, *db_ND;  ///< of scratch; db: null when it is not asked for
  float inverse_width;
  int64_t rows;
  int width;
};

/// Columns that the sums of a block take in shared memory: whole packs of every thread.
template <class S>
constexpr int padded(int width) {
  constexpr int kStep = S::kThreads * S::kVec;
  return (width + kStep - 1) / kStep * kStep;
}

/// A block's sum over its rows of dw or db, each column owned by one thread: in shared memory, in an order that keeps a
/// warp's 16-byte accesses side by side, or in the block's row of scratch.
template <class S>
struct ColumnSums {
  float* shared_D;  ///< null where nothing is held
  float* out_D;

  /// Four columns of a pack. Those of one thread lie in different halves of the banks, which `finish` reads in turn.
  SIMT_DEV float* held(int i, int part, int thread) const {
    return shared_D + ((i * (S::kVec / 4) + part) * S::kThreads + (thread ^ (part * 4))) * 4;
  }
  SIMT_DEV void add(bool first, int i, int col, const Pack<float, S::kVec>& value) const {
    constexpr int kWide = S::kVec == 1 ? 1 : 4;
#pragma unroll
    for (int part = 0; part < S::kVec / kWide; ++part) {
      float* at;
      if constexpr (S::kHeld) {
        at = held(i, part, static_cast<int>(threadIdx.x));
      } else {
        at = out_D + col + part * kWide;
      }
      Pack<float, kWide> sum{};
      if (!first) sum = Pack<float, kWide>::load(at);
#pragma unroll
      for (int j = 0; j < kWide; ++j) sum.value[j] += value.value[part * kWide + j];
      sum.store(at);
    }
  }
  /// After a barrier: what a thread stores are others' columns, so that neighbours store side by side.
  SIMT_DEV void finish(int width) const {
    if constexpr (S::kHeld) {
      constexpr int kParts = S::kVec / 4;
#pragma unroll
      for (int i = 0; i < S::kPacks * kParts; ++i) {
        const int four = i % kParts * S::kThreads + static_cast<int>(threadIdx.x);
        const int col = i / kParts * (S::kThreads * S::kVec) + four * 4;
        if (col < width) Pack<float, 4>::load(held(i / kParts, four % kParts, four / kParts)).store(out_D + col);
      }
    }
  }
};

template <class S>
__global__ void __launch_bounds__(S::kThreads) backward_kernel(Backward<typename S::T> f) {
  using Values = Pack<typename S::T, S::kVec>;
  SIMT_DYN_SMEM(float, held_2D);
  __shared__ float2 shared[2][S::kThreads / 32];
  const int64_t partial = static_cast<int64_t>(blockIdx.x) * f.width;
  const ColumnSums<S> dw{held_2D, f.dw_ND + partial}, db{held_2D + padded<S>(f.width), f.db_ND + partial};
  Row<S, S::kRoomy> w;
  w.read(f.w_D, f.width);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < f.rows; row += gridDim.x, turn ^= 1) {
    const int64_t at = row * f.width;
    const float mean = f.mean_T != nullptr ? f.mean_T[row] : 0.0f, rstd = f.rstd_T[row];
    Row<S> x, dy;
    Row<S, S::kRoomy> residual;
    x.read(f.x_TD + at, f.width);
    dy.read(f.dy_TD + at, f.width);
    if (f.residual_TD != nullptr) residual.read(f.residual_TD + at, f.width);
    float sum_g = 0, sum_gx = 0;
    S::for_packs(f.width, [&](int i, int col) {
      const Values in = x.get(i, col), d = dy.get(i, col), scale = w.get(i, col);
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) {
        const float g = d.value[j] * scale.value[j];
        sum_g += g;
        sum_gx += g * ((in.value[j] - mean) * rstd);
      }
    });
    const float2 sums = block_sums<S::kThreads>(sum_g, sum_gx, shared[turn]);
    const float mean_g = f.mean_T != nullptr ? sums.x * f.inverse_width : 0.0f, mean_gx = sums.y * f.inverse_width;
    const bool first = row == blockIdx.x;
    S::for_packs(f.width, [&](int i, int col) {
      const Values in = x.get(i, col), d = dy.get(i, col), scale = w.get(i, col);
      Pack<float, S::kVec> of_w, of_b;
      Values dx;
#pragma unroll
      for (int j = 0; j < S::kVec; ++j) {
        const float x_hat = (in.value[j] - mean) * rstd;
        dx.value[j] = rstd * (d.value[j] * scale.value[j] - mean_g - x_hat * mean_gx);
        of_w.value[j] = d.value[j] * x_hat;
        of_b.value[j] = d.value[j];
      }
      if (f.residual_TD != nullptr) {
        const Values r = residual.get(i, col);
#pragma unroll
        for (int j = 0; j < S::kVec; ++j) dx.value[j] += r.value[j];
      }
      dx.store(f.dx_TD + at + col);
      dw.add(first, i, col, of_w);
      if (f.db_ND != nullptr) db.add(first, i, col, of_b);
    });
  }
  if constexpr (S::kHeld) __syncthreads();
  dw.finish(f.width);
  if (f.db_ND != nullptr) db.finish(f.width);
}

constexpr int kStrip = 32, kGroups = 16;  // columns of a block, and the shares of N that it adds up side by side

/// total_D += partial_ND, for dw (blockIdx.y = 0) or db.
__global__ void __launch_bounds__(kStrip* kGroups)
    add_partials_kernel(float* dw_D, float* db_D, const float* partial_2ND, int blocks, int width) {
  __shared__ float shared[kGroups][kStrip + 1];
  const int lane = static_cast<int>(threadIdx.x) % kStrip, group = static_cast<int>(threadIdx.x) / kStrip;
  const int col = static_cast<int>(blockIdx.x) * kStrip + lane;
  const float* partial_ND = partial_2ND + static_cast<int64_t>(blockIdx.y) * blocks * width;
  float sum = 0;
  if (col < width) {
    for (int n = group; n < blocks; n += kGroups) sum += partial_ND[static_cast<int64_t>(n) * width + col];
  }
  shared[group][lane] = sum;
  __syncthreads();
  if (group != 0 || col >= width) return;
#pragma unroll
  for (int i = 1; i < kGroups; ++i) sum += shared[i][lane];
  float* total_D = blockIdx.y == 0 ? dw_D : db_D;
  total_D[col] += sum;
}

/// Calls run(Shape) for a row length; the held shapes reach up to `longest`.
template <class T, class F>
void with_shape(int64_t width, bool vectors, int64_t longest, F run) {
  constexpr int kVec = kPerVector<T>;
  if (!vectors) return run(Shape<T, 128, 1, 0>{});
  if (width > longest) return run(Shape<T, 512, kVec, 0>{});
  if (width <= 32 * 8) return run(Shape<T, 32, kVec, 8 / kVec>{});
  if (width <= 128 * 8) return run(Shape<T, 128, kVec, 8 / kVec>{});
  if (width <= 256 * 16) return run(Shape<T, 256, kVec, 16 / kVec>{});
  if (width <= 512 * 16) return run(Shape<T, 512, kVec, 16 / kVec>{});
  run(Shape<T, 512, kVec, 32 / kVec>{});
}

constexpr int64_t kLongest = 512 * 32;
/// Shared memory that a block may have on every architecture from sm_80 on (sm_86 has 99 KiB, the others more).
constexpr int64_t kSharedBytes = 96 * 1024;

/// True when every tensor that is present allows 16-byte accesses to its rows.
bool all_vectorizable(std::initializer_list<Tensor> tensors, int64_t width) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const Tensor& t) { return !t.defined() || vectorizable(t, width); });
}

template <class T>
T* or_null(const Tensor& t) {
  return t.defined() ? at<T>(t) : nullptr;
}

}  // namespace

void norm_forward(cudaStream_t stream, const NormArgs& args) {
  const int64_t rows = args.x_TD.dim[0], width = args.x_TD.dim[1];
  if (rows == 0) return;
  const bool vectors =
      all_vectorizable({args.y_TD, args.x_TD, args.w_D, args.b_D, args.stream_TD, args.addend_TD}, width);
  with_float(args.x_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Forward<T> f{at<T>(args.y_TD),
                       or_null<float>(args.mean_T),
                       at<float>(args.rstd_T),
                       at<T>(args.x_TD),
                       at<const T>(args.w_D),
                       or_null<const T>(args.b_D),
                       or_null<const T>(args.stream_TD),
                       or_null<const T>(args.addend_TD),
                       make_dropout(args.drop, width),
                       args.eps,
                       1.0f / static_cast<float>(width),
                       rows,
                       static_cast<int>(width)};
    with_shape<T>(width, vectors, kLongest, [&](auto shape) {
      using S = decltype(shape);
      constexpr int64_t kMostBlocks = (1 << 18) / S::kThreads;  // what a large device holds at once
      const dim3 grid(static_cast<unsigned>(std::min(rows, kMostBlocks)));
      check_launch(simt::launch(forward_kernel<S>, grid, dim3(S::kThreads), 0, stream, f), "norm_forward");
    });
  });
}

void norm_backward(cudaStream_t stream, const NormBackwardArgs& args) {
  const NormArgs& forward = args.forward;
  const int64_t rows = forward.x_TD.dim[0], width = forward.x_TD.dim[1];
  if (rows == 0) return;
  ensure(args.scratch.bytes() >= norm_scratch_bytes(args), "norm_backward: scratch holds scratch_bytes(args)");
  const int64_t blocks = norm_backward_blocks(rows, width), sums = args.db_D.defined() ? 2 : 1;
  float* const partial_2ND = static_cast<float*>(args.scratch.data);
  const bool vectors = all_vectorizable({args.dx_TD, args.dy_TD, args.residual_TD, forward.x_TD, forward.w_D}, width);
  with_float(forward.x_TD.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Backward<T> f{at<T>(args.dx_TD),
                        at<const T>(args.dy_TD),
                        or_null<const T>(args.residual_TD),
                        at<const T>(forward.x_TD),
                        at<const T>(forward.w_D),
                        forward.kind == NormKind::layer_norm ? at<const float>(forward.mean_T) : nullptr,
                        at<const float>(forward.rstd_T),
                        partial_2ND,
                        sums == 2 ? partial_2ND + blocks * width : nullptr,
                        1.0f / static_cast<float>(width),
                        rows,
                        static_cast<int>(width)};
    const int64_t longest = std::min<int64_t>(kLongest, kSharedBytes / (sums * static_cast<int64_t>(sizeof(float))));
    with_shape<T>(width, vectors, longest, [&](auto shape) {
      using S = decltype(shape);
      const size_t smem = S::kHeld ? static_cast<size_t>(sums * padded<S>(f.width)) * sizeof(float) : 0;
      check_launch(
          simt::launch(backward_kernel<S>, dim3(static_cast<unsigned>(blocks)), dim3(S::kThreads), smem, stream, f),
          "norm_backward");
    });
  });
  const dim3 grid(static_cast<unsigned>(ceil_div(width, kStrip)), static_cast<unsigned>(sums));
  check_launch(simt::launch(add_partials_kernel, grid, dim3(kStrip * kGroups), 0, stream, at<float>(args.dw_D),
                            or_null<float>(args.db_D), partial_2ND, static_cast<int>(blocks), static_cast<int>(width)),
               "norm_backward");
}

}  // namespace trident::cuda
