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
constexpr int64_t kCacheRows = 32 * kTileRows;  // rows of packed a that stay in L2 while b's panels pass by
constexpr int64_t kParallelFlops = int64_t{1} << 19;

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
  size_t packed_a() const { return static_cast<size_t>(round_up(block_m * block_k, kCacheLine / sizeof(float))); }
  size_t packed_b() const { return static_cast<size_t>(block_n * block_k); }
  /// Sums between two blocks of k wait in scratch, a tile at a time: c's rows often lie a page apart.
  size_t partial() const { return k <= block_k ? 0 : static_cast<size_t>(block_m * block_n); }
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
    // By way of a buffer: lines are often a power of two apart and would evict each other if read one element at a
    // time.
    constexpr int64_t kRun = 64;
    float line[Width][kRun + kLanes];
    for (int64_t begin = 0; begin < k_count; begin += kRun) {
      const int64_t run = std::min(kRun, k_count - begin);
      for (int64_t i = 0; i < Width; ++i) {
        const T* in = src + i * line_stride + begin;
        vector_steps(0, run, [&](int64_t p, auto lanes) { store(line[i] + p, load(in + p, lanes)); });
      }
      for (int64_t p = 0; p < run; ++p) {
#pragma GCC unroll 16
        for (int i = 0; i < Width; ++i) out[(begin + p) * Width + i] = line[i][p];
      }
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

/// Where finished micro-tiles go; bias and the old c are added here, once.
template <class T, class C>
struct Sink {
  C* c;
  int64_t c_stride;
  bool accumulate;
  const T* bias;

  /// Asks for the lines that `write` will touch, while the micro-kernel runs.
  void prefetch(int64_t row, int64_t col, int64_t rows) const {
    for (int64_t i = 0; i < rows; ++i) {
      const C* out = c + (row + i) * c_stride + col;
      __builtin_prefetch(out, 1);
      __builtin_prefetch(out + kTileCols - 1, 1);
    }
  }

  /// c[row + i][col + j] from tile [kTileRows][kTileCols].
  void write(const float* tile, int64_t row, int64_t col, int64_t rows, int64_t cols) const {
    for (int64_t i = 0; i < rows; ++i) {
      C* out = c + (row + i) * c_stride + col;
      vector_steps(0, cols, [&](int64_t j, auto lanes) {
        VecF sum = load(tile + i * kTileCols + j);
        if (bias != nullptr) sum += load(bias + col + j, lanes);
        if (accumulate) sum += load(out + j, lanes);
        store(out + j, sum, lanes);
      });
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
  Sink<T, C> sink;
  float *packed_a, *packed_b;
  float* partial;  // [row panel][column panel][tile], nullptr when one block holds all of k

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
    const int64_t col_panels = ceil_div(cols, kTileCols);
    float local[kTileRows * kTileCols];
    for (int64_t i0 = share.row_begin; i0 < share.row_end; i0 += kPanels) {
      for (int64_t j = share.col_begin; j < share.col_end; ++j) {
        const int64_t tile_col = j * kTileCols, tile_cols = std::min<int64_t>(kTileCols, cols - tile_col);
        for (int64_t i = i0; i < std::min(i0 + kPanels, share.row_end); ++i) {
          const int64_t tile_row = i * kTileRows, tile_rows = std::min<int64_t>(kTileRows, rows - tile_row);
          float* tile = partial == nullptr ? local : partial + (i * col_panels + j) * kTileRows * kTileCols;
          if (last) sink.prefetch(row + tile_row, col + tile_col, tile_rows);
          micro_kernel<kTileRows>(k_count, packed_a + tile_row * k_count, 1, kTileRows, packed_b + tile_col * k_count,
                                  kTileCols, tile, kTileCols, !first);
          if (last) sink.write(tile, row + tile_row, col + tile_col, tile_rows, tile_cols);
        }
      }
    }
  }
};

template <class T, class C>
void multiply(const GemmArgs& args) {
  const Shape shape(args);
  float* scratch = align_to_line<float>(args.scratch.data);
  float* packed_b = scratch + shape.packed_a();
  const Product<T, C> product{
      shape,
      {args.a.as<T>(), args.transpose_a ? 1 : shape.k, args.transpose_a ? shape.m : 1},
      {args.b.as<T>(), args.transpose_b ? shape.k : 1, args.transpose_b ? 1 : shape.n},
      {args.c_MN.as<C>(), shape.n, args.accumulate, args.bias_N.defined() ? args.bias_N.as<T>() : nullptr},
      scratch,
      packed_b,
      shape.partial() > 0 ? packed_b + shape.packed_b() : nullptr};
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
  return kCacheLine + sizeof(float) * (shape.packed_a() + shape.packed_b() + shape.partial());
}

}  // namespace trident::cpu
