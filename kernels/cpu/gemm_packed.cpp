// Blocking as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 2008): panels of
// op(b) and op(a) are packed for the micro-kernel, op(b)'s micro-panel sits in L1, a thread's share of op(a) in L2.
// Policy: the packed panels are shared by the team, so scratch does not depend on the number of threads.
//
// Legend: c is M x N, k runs over K; a block is kBlockM x kBlockN of c, and kBlockK of k.
#include "kernels/cpu/gemm_packed.h"

#include <algorithm>

#include "kernels/cpu/micro_kernel.h"
#include "kernels/cpu/parallel.h"

namespace trident::cpu {
namespace {

constexpr int64_t kBlockK = 256;
constexpr int64_t kBlockM = 2048 / kTileRows * kTileRows;
constexpr int64_t kBlockN = 1024;
constexpr int64_t kCacheRows = 16 * kTileRows;  // rows of packed a that stay in L2 while b's panels pass by
constexpr int64_t kParallelFlops = int64_t{1} << 19;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

struct Shape {
  int64_t m, n, k;
  int64_t block_m, block_n, block_k;  // this problem's block sizes, not larger than the constants

  explicit Shape(const GemmArgs& args) {
    m = args.c_MN.dim[0];
    n = args.c_MN.dim[1];
    k = args.transpose_a ? args.a.dim[0] : args.a.dim[1];
    block_m = std::min(kBlockM, round_up(m, kTileRows));
    block_n = std::min(kBlockN, round_up(n, kTileCols));
    block_k = std::min(kBlockK, k);
  }
  size_t packed_a() const { return static_cast<size_t>(block_m * block_k); }
  size_t packed_b() const { return static_cast<size_t>(block_n * block_k); }
  /// Sums between two blocks of k live in c when c is f32, else in scratch.
  size_t partial(DType c) const { return c == DType::f32 || k <= block_k ? 0 : static_cast<size_t>(block_m * block_n); }
};

/// Packs `count` lines (rows of op(a), or columns of op(b)) and k_count steps of k into one micro-panel
/// [k_count][Width]; missing lines become zeros. Line i, step p is at src[i * line_stride + p * k_stride].
template <int Width, class T>
void pack_panel(float* out, const T* src, int64_t line_stride, int64_t k_stride, int64_t count, int64_t k_count) {
  if (count < Width) {
    for (int64_t p = 0; p < k_count; ++p) {
      for (int64_t i = 0; i < Width; ++i) {
        out[p * Width + i] = i < count ? static_cast<float>(src[i * line_stride + p * k_stride]) : 0.0f;
      }
    }
  } else if (line_stride == 1) {
    for (int64_t p = 0; p < k_count; ++p) {
      const T* in = src + p * k_stride;
      if constexpr (Width % kLanes == 0) {
        for (int64_t i = 0; i < Width; i += kLanes) store(out + p * Width + i, load(in + i));
      } else {
        for (int64_t i = 0; i < Width; ++i) out[p * Width + i] = static_cast<float>(in[i]);
      }
    }
  } else {
    for (int64_t p = 0; p < k_count; ++p) {
#pragma GCC unroll 16
      for (int i = 0; i < Width; ++i) out[p * Width + i] = static_cast<float>(src[i * line_stride + p]);
    }
  }
}

/// One operand: element (line, k) of op() and how to pack it.
template <class T>
struct Operand {
  const T* data;
  int64_t line_stride, k_stride;

  template <int Width>
  void pack(float* out, int64_t line, int64_t count, int64_t k_begin, int64_t k_count) const {
    pack_panel<Width>(out, data + line * line_stride + k_begin * k_stride, line_stride, k_stride, count, k_count);
  }
};

/// Where finished micro-tiles go: sums of earlier k blocks come in, bias and the old c are added once, at the end.
template <class C>
struct Sink {
  C* c;
  int64_t c_stride;
  const float* partial_in;  // nullptr: in c itself (C = float)
  float* partial_out;
  int64_t partial_stride;
  bool accumulate;
  const void* bias;
  DType bias_dtype;

  float bias_at(int64_t col) const {
    switch (bias_dtype) {
      case DType::f32: return static_cast<const float*>(bias)[col];
      case DType::bf16: return static_cast<float>(static_cast<const bf16*>(bias)[col]);
      default: return static_cast<float>(static_cast<const f16*>(bias)[col]);
    }
  }

  /// tile is [kTileRows][kTileCols]; (row, col) in c, (block_row, block_col) in the partial sums.
  void write(const float* tile, int64_t row, int64_t col, int64_t block_row, int64_t block_col, int64_t rows,
             int64_t cols, bool first, bool last) const {
    float bias_values[kTileCols] = {};
    const bool add_bias = last && bias != nullptr;
    if (add_bias) {
      for (int64_t j = 0; j < cols; ++j) bias_values[j] = bias_at(col + j);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const float* in = tile + i * kTileCols;
      C* out = c + (row + i) * c_stride + col;
      float* part = partial_out == nullptr ? nullptr : partial_out + (block_row + i) * partial_stride + block_col;
      write_row(out, part, in, bias_values, cols, first, last);
    }
  }

  void write_row(C* out, float* part, const float* in, const float* bias_values, int64_t cols, bool first,
                 bool last) const {
    float row[kTileCols];
    for (int64_t j = 0; j < cols; ++j) row[j] = in[j] + bias_values[j];
    if constexpr (std::is_same_v<C, float>) {
      if (accumulate || !first) {
        for (int64_t j = 0; j < cols; ++j) row[j] = out[j] + row[j];
      }
      for (int64_t j = 0; j < cols; ++j) out[j] = row[j];
    } else {
      if (!first) {
        for (int64_t j = 0; j < cols; ++j) row[j] = part[j] + row[j];
      }
      if (!last) {
        for (int64_t j = 0; j < cols; ++j) part[j] = row[j];
        return;
      }
      if (accumulate) {
        for (int64_t j = 0; j < cols; ++j) row[j] = static_cast<float>(out[j]) + row[j];
      }
      if (cols == kTileCols) {
        for (int64_t j = 0; j < kTileCols; j += kLanes) store(out + j, load(row + j));
      } else {
        for (int64_t j = 0; j < cols; ++j) out[j] = C(row[j]);
      }
    }
  }
};

/// The part of a block that one thread computes: micro-panels [row_begin, row_end) x [col_begin, col_end).
struct Share {
  int64_t row_begin, row_end, col_begin, col_end;

  Share(int64_t row_panels, int64_t col_panels, int64_t team, int64_t me) {
    const bool by_rows = row_panels >= col_panels || row_panels >= 16 * team;
    row_begin = by_rows ? row_panels * me / team : 0;
    row_end = by_rows ? row_panels * (me + 1) / team : row_panels;
    col_begin = by_rows ? 0 : col_panels * me / team;
    col_end = by_rows ? col_panels : col_panels * (me + 1) / team;
  }
};

template <class T, class C>
struct Product {
  Shape shape;
  Operand<T> a;
  Operand<T> b;
  Sink<C> sink;
  float *packed_a, *packed_b;

  /// Runs in every thread of a team; `barrier` separates packing from use.
  template <class Barrier>
  void run(int64_t team, int64_t me, Barrier barrier) const {
    for (int64_t col = 0; col < shape.n; col += shape.block_n) {
      const int64_t cols = std::min(shape.block_n, shape.n - col);
      for (int64_t row = 0; row < shape.m; row += shape.block_m) {
        const int64_t rows = std::min(shape.block_m, shape.m - row);
        for (int64_t k = 0; k == 0 || k < shape.k; k += kBlockK) {  // once even for k = 0: c becomes bias or 0
          const int64_t k_count = std::min(shape.block_k, shape.k - k);
          pack(row, rows, col, cols, k, k_count, team, me);
          barrier();
          multiply(row, rows, col, cols, k, k_count,
                   Share(ceil_div(rows, kTileRows), ceil_div(cols, kTileCols), team, me));
          barrier();
        }
      }
    }
  }

  void pack(int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t k, int64_t k_count, int64_t team,
            int64_t me) const {
    const int64_t a_panels = ceil_div(rows, kTileRows), b_panels = ceil_div(cols, kTileCols);
    for (int64_t i = a_panels * me / team; i < a_panels * (me + 1) / team; ++i) {
      const int64_t line = i * kTileRows;
      a.template pack<kTileRows>(packed_a + line * k_count, row + line, std::min<int64_t>(kTileRows, rows - line), k,
                                 k_count);
    }
    for (int64_t j = b_panels * me / team; j < b_panels * (me + 1) / team; ++j) {
      const int64_t line = j * kTileCols;
      b.template pack<kTileCols>(packed_b + line * k_count, col + line, std::min<int64_t>(kTileCols, cols - line), k,
                                 k_count);
    }
  }

  void multiply(int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t k, int64_t k_count, Share share) const {
    constexpr int64_t kPanels = kCacheRows / kTileRows;
    const bool first = k == 0, last = k + k_count == shape.k;
    float tile[kTileRows * kTileCols];
    for (int64_t i0 = share.row_begin; i0 < share.row_end; i0 += kPanels) {
      for (int64_t j = share.col_begin; j < share.col_end; ++j) {
        const int64_t tile_col = j * kTileCols, tile_cols = std::min<int64_t>(kTileCols, cols - tile_col);
        for (int64_t i = i0; i < std::min(i0 + kPanels, share.row_end); ++i) {
          const int64_t tile_row = i * kTileRows, tile_rows = std::min<int64_t>(kTileRows, rows - tile_row);
          micro_kernel<kTileRows>(k_count, packed_a + tile_row * k_count, 1, kTileRows, packed_b + tile_col * k_count,
                                  kTileCols, tile, kTileCols, false);
          sink.write(tile, row + tile_row, col + tile_col, tile_row, tile_col, tile_rows, tile_cols, first, last);
        }
      }
    }
  }
};

template <class T, class C>
void multiply(const GemmArgs& args) {
  const Shape shape(args);
  float* scratch = static_cast<float*>(args.scratch.data);
  float* partial = shape.partial(args.c_MN.dtype) > 0 ? scratch + shape.packed_a() + shape.packed_b() : nullptr;
  const bool has_bias = args.bias_N.defined();
  const Product<T, C> product{shape,
                              {args.a.as<T>(), args.transpose_a ? 1 : shape.k, args.transpose_a ? shape.m : 1},
                              {args.b.as<T>(), args.transpose_b ? shape.k : 1, args.transpose_b ? 1 : shape.n},
                              {args.c_MN.as<C>(), shape.n, partial, partial, shape.block_n, args.accumulate,
                               has_bias ? args.bias_N.data : nullptr, has_bias ? args.bias_N.dtype : DType::f32},
                              scratch,
                              scratch + shape.packed_a()};
  const bool alone =
      2 * shape.m * shape.n * shape.k < kParallelFlops || omp_in_parallel() || omp_get_max_threads() == 1;
  if (alone) {
    product.run(1, 0, [] {});
    return;
  }
#pragma omp parallel
  product.run(omp_get_num_threads(), omp_get_thread_num(), [] {
#pragma omp barrier
  });
}

}  // namespace

void gemm_packed(const GemmArgs& args) {
  with_float(args.a.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    if (args.c_MN.dtype == DType::f32) {
      multiply<T, float>(args);
    } else {
      multiply<T, T>(args);
    }
  });
}

size_t gemm_packed_scratch_bytes(const GemmArgs& args) {
  const Shape shape(args);
  return sizeof(float) * (shape.packed_a() + shape.packed_b() + shape.partial(args.c_MN.dtype));
}

}  // namespace trident::cpu
