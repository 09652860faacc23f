// Blocking: one operand is shared by the team and packed whole before the product, at most kSuper lines by kSuper steps
// of k at a time; the other is cut over the threads into blocks of at most kBlockPrivate lines, which their thread
// packs itself. A block's sums stay in L2 while k runs in blocks of kBlockK: then a strip of 32 lines of either operand
// is 16 KiB and two of them fit into L1, where the tiles run at nine tenths of their peak; from L2 they reach half.
//
// f32 operands are split into their parts (amx.h) while they are packed; a step of tiles holds all of them. Blocks of k
// are added to c's sum one rounding each, so a sum errs like one of k fused multiply-adds.
//
// Legend: c is M x N, k runs over K; "lines", "parts" and tiles as in amx_pack.h; a strip is 32 lines by a block of k.
#include "kernels/cpu/gemm_amx.h"

#include <omp.h>

#include <algorithm>

#include "core/base/error.h"
#include "kernels/cpu/amx_pack.h"
#include "kernels/cpu/parallel.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

namespace {

/// Steps of k in a block: three parts of f32 shall fit into L1 as one of bf16 does.
template <class T>
inline constexpr int64_t kBlockK = kParts<T> == 1 ? 256 : 96;
constexpr int64_t kBlockPrivate = 384;
constexpr int64_t kBlockShared = 384;
constexpr int64_t kSuper = 4096;  // lines
template <class T>
inline constexpr int64_t kSuperK = round_up(int64_t{4096}, kBlockK<T>);
constexpr int64_t kStrip = kAmxStep;
constexpr int64_t kStripStep = kStrip * kTileSteps;  // elements of a part of a strip per step of tiles
constexpr int64_t kSums = kStrip * kStrip;           // f32 sums of a pair of strips: four tiles
constexpr double kParallelFlops = 2e6;

struct Shape {
  int64_t m, n, k;
  int64_t parts;              // of an element
  bool rows_private;          // the private lines are c's rows, not its columns
  int64_t privates, shareds;  // lines of either operand
  int team;
  int64_t block_private, block_shared, super_shared, super_k;
  bool one_super;  // all of k in one packing

  explicit Shape(const GemmArgs& args) {
    m = args.c_MN.dim[0];
    n = args.c_MN.dim[1];
    k = args.transpose_a ? args.a.dim[0] : args.a.dim[1];
    parts = args.a.dtype == DType::f32 ? kParts<float> : kParts<bf16>;
    rows_private = m >= n;
    privates = std::max(m, n);
    shareds = std::min(m, n);
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    team = flops < kParallelFlops || omp_in_parallel() ? 1 : omp_get_max_threads();
    // As many blocks as keep every thread equally busy.
    const int64_t rounds = ceil_div(privates, team * kBlockPrivate);
    block_private = round_up(ceil_div(privates, team * rounds), kStrip);
    super_shared = std::min(kSuper, round_up(shareds, kStrip));
    block_shared = round_up(ceil_div(super_shared, ceil_div(super_shared, kBlockShared)), kStrip);
    const int64_t most_k = args.a.dtype == DType::f32 ? kSuperK<float> : kSuperK<bf16>;
    super_k = std::min(most_k, round_up(k, kTileSteps));
    one_super = k <= most_k;
  }
  int64_t shared_elements() const { return super_shared * super_k * parts; }
  /// Of one thread. A block meets several blocks of the shared operand: its packed form is kept.
  int64_t private_elements() const { return block_private * super_k * parts; }
  /// Sums of one thread's block, or, when they outlive it, of all of c.
  int64_t sums() const {
    return one_super ? team * block_private * block_shared : round_up(privates, block_private) * super_shared;
  }
};

constexpr int64_t kLine = static_cast<int64_t>(kCacheLine);

/// Walks through memory that will be needed soon, a few lines with every pair of tiles that is loaded: the packed
/// strips of the next block, and, row by row, the part of c that comes next.
struct Prefetcher {
  static constexpr int kLines = 2;
  const char *next = nullptr, *end = nullptr;
  const char *row = nullptr, *rows_end = nullptr;
  int64_t row_bytes = 0, width = 0;  // from one row of c to the next, and what is wanted of each

  void step() {
    for (int i = 0; i < kLines && next < end; ++i, next += kLine) __builtin_prefetch(next, 0, 2);
    for (int i = 0; i < kLines && row < rows_end; ++i, row += row_bytes) {
      __builtin_prefetch(row, 1);
      __builtin_prefetch(row + width - 1, 1);
    }
  }
};

/// Writes finished sums to c: + bias, or + the old c.
template <class T, class C>
struct Sink {
  C* c;
  int64_t m, n;
  bool accumulate;
  const T* bias;

  /// Has the rows of c that the next `write` will touch fetched.
  void prefetch(Prefetcher& prefetch, int64_t row, int64_t col) const {
    const auto bytes = static_cast<int64_t>(sizeof(C));
    prefetch.row = reinterpret_cast<const char*>(c + row * n + col);
    prefetch.row_bytes = n * bytes;
    prefetch.rows_end = prefetch.row + std::min(kStrip, m - row) * prefetch.row_bytes;
    prefetch.width = std::min(kStrip, n - col) * bytes;
  }

  /// c[row ...][col ...] from four tiles: top left, top right, bottom left, bottom right.
  void write(const float* tiles, int64_t row, int64_t col) const {
    const int64_t rows = std::min(kStrip, m - row), columns = std::min(kStrip, n - col);
    for (int64_t i = 0; i < rows; ++i) {
      const float* in = tiles + i / kTileLines * (kSums / 2) + i % kTileLines * kTileLines;
      C* out = c + (row + i) * n + col;
      vector_steps(0, columns, [&](int64_t j, auto lanes) {
        VecF sum = load(in + j / kTileLines * kTileLines * kTileLines);
        if (bias != nullptr) sum += load(bias + col + j, lanes);
        if (accumulate) sum += load(out + j, lanes);
        store(out + j, sum, lanes);
      });
    }
  }
};

/// Four tiles of sums += left right over `steps` tile steps.
template <class T>
void multiply_steps(const bf16* left, const bf16* right, int64_t steps, Prefetcher& prefetch) {
  constexpr int64_t kStep = kStripStep * kParts<T>, kRow = 64;  // bytes of a tile's row
  for (int64_t s = 0; s < steps; ++s, left += kStep, right += kStep) {
    multiply_parts<kParts<T>>(
        [&](int64_t part) {
          prefetch.step();
          _tile_loadd(4, left + part * kStripStep, kRow);
          _tile_loadd(5, left + part * kStripStep + kTileElements, kRow);
        },
        [&](int64_t part) {
          prefetch.step();
          _tile_loadd(6, right + part * kStripStep, kRow);
          _tile_loadd(7, right + part * kStripStep + kTileElements, kRow);
        });
  }
}

/// One pair of strips: sums = old (nullptr: 0) + left right over `steps` tile steps. `sums` may be `old`.
template <class T>
void multiply_strips(const bf16* left, const bf16* right, int64_t steps, const float* old, float* sums,
                     Prefetcher& prefetch) {
  constexpr int64_t kRow = 64, kTile = kTileLines * kTileLines;
  if (kParts<T> == 1 && old != nullptr) {
    _tile_loadd(0, old, kRow);
    _tile_loadd(1, old + kTile, kRow);
    _tile_loadd(2, old + 2 * kTile, kRow);
    _tile_loadd(3, old + 3 * kTile, kRow);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  multiply_steps<T>(left, right, steps, prefetch);
  alignas(kCacheLine) float block[kParts<T> == 1 ? 1 : kSums];
  float* out = kParts<T> == 1 || old == nullptr ? sums : block;
  _tile_stored(0, out, kRow);
  _tile_stored(1, out + kTile, kRow);
  _tile_stored(2, out + 2 * kTile, kRow);
  _tile_stored(3, out + 3 * kTile, kRow);
  if (out != sums) {
    for (int64_t i = 0; i < kSums; i += kLanes) store(sums + i, load(old + i) + load(block + i));
  }
}

/// What is packed at a time of the shared operand.
struct Pass {
  int64_t line, lines, k, steps;

  int64_t strips() const { return ceil_div(lines, kStrip); }
  /// Steps of k in the block at p, in whole tiles; `block` steps in all but the last.
  int64_t block_steps(int64_t p, int64_t block) const { return round_up(std::min(block, steps - p), kTileSteps); }
};

/// A block of the private operand times a block of the shared one, over a block of k. Lines and steps count from the
/// pass.
struct Piece {
  int64_t first, strips;          // the private lines
  int64_t shared, shared_strips;  // the shared ones
  int64_t p, steps;
};

template <class T, class C>
struct Product {
  static constexpr int64_t kBlock = kBlockK<T>;
  static constexpr int64_t kStripElements = kStrip * kParts<T>;  // for each step of k

  Shape shape;
  AmxOperand<T> a, b;
  Sink<T, C> sink;
  float* bias_grad;      // nullptr: not wanted
  bf16* packed_shared;   // [block of k][strip][step of k][part][two tiles], one pass
  bf16* packed_private;  // [thread], the same
  float* sums;           // [thread] when a pass holds all of k, [shared strip][private strip][four tiles]

  /// Runs in every thread of a team; `barrier` separates packing from use.
  template <class Barrier>
  void run(int64_t team, int64_t me, Barrier barrier) const {
    const AmxTiles tiles;
    const int64_t blocks = ceil_div(shape.privates, shape.block_private);
    for (int64_t line = 0; line < shape.shareds; line += shape.super_shared) {
      for (int64_t k = 0; k < shape.k; k += shape.super_k) {
        const Pass pass{line, std::min(shape.super_shared, shape.shareds - line), k,
                        std::min(shape.super_k, shape.k - k)};
        pack_shared(pass, team, me);
        barrier();
        for (int64_t i = blocks * me / team; i < blocks * (me + 1) / team; ++i) multiply_block(pass, i, me);
        barrier();
      }
    }
  }

  /// `strips` strips from `line` and `steps` steps of k from `k` of the left or right matrix, to out.
  void pack(bf16* out, bool left, int64_t line, int64_t strips, int64_t k, int64_t steps, float* line_sums) const {
    const auto pack_step = [&](int64_t strip, int64_t p) {
      bf16* tile = out + (strip * steps + p) * kStripElements;
      for (int64_t i = strip * kStrip; i < (strip + 1) * kStrip; i += kTileLines, tile += kTileElements) {
        if (left) {
          float* sums_of_tile = line_sums == nullptr ? nullptr : line_sums + line + i;
          pack_tile<TileSide::left>(tile, kStripStep, a, line + i, k + p, sums_of_tile);
        } else {
          pack_tile<TileSide::right>(tile, kStripStep, b, line + i, k + p, nullptr);
        }
      }
    };
    // Along the rows of the matrix as it lies in memory.
    if ((left ? a : b).k_stride == 1) {
      for (int64_t strip = 0; strip < strips; ++strip) {
        for (int64_t p = 0; p < steps; p += kTileSteps) pack_step(strip, p);
      }
    } else {
      for (int64_t p = 0; p < steps; p += kTileSteps) {
        for (int64_t strip = 0; strip < strips; ++strip) pack_step(strip, p);
      }
    }
  }

  void pack_shared(const Pass& pass, int64_t team, int64_t me) const {
    const int64_t begin = pass.strips() * me / team, end = pass.strips() * (me + 1) / team;
    for (int64_t p = 0; p < pass.steps; p += kBlock) {
      const int64_t steps = pass.block_steps(p, kBlock);
      pack(packed_shared + (p * pass.strips() + begin * steps) * kStripElements, !shape.rows_private,
           pass.line + begin * kStrip, end - begin, pass.k + p, steps, bias_grad);
    }
  }

  /// Private block `index` against the packed lines of the shared operand.
  void multiply_block(const Pass& pass, int64_t index, int64_t me) const {
    const int64_t first = index * shape.block_private;
    const int64_t strips = ceil_div(std::min(shape.block_private, shape.privates - first), kStrip);
    bf16* mine = packed_private + me * shape.private_elements();
    for (int64_t s = 0; s < pass.lines; s += shape.block_shared) {
      const int64_t shared_strips = ceil_div(std::min(shape.block_shared, pass.lines - s), kStrip);
      for (int64_t p = 0; p < pass.steps; p += kBlock) {
        const Piece piece{first, strips, s, shared_strips, p, pass.block_steps(p, kBlock)};
        bf16* block = mine + p * strips * kStripElements;
        // Packed for the first shared block of a pass, its sums taken in the first pass.
        if (s == 0) {
          pack(block, shape.rows_private, first, strips, pass.k + p, piece.steps, pass.line == 0 ? bias_grad : nullptr);
        }
        multiply(pass, piece, block, me);
      }
    }
  }

  /// Where the packed shared lines of the piece after this one lie: the next ones along k, or of the next block.
  Prefetcher prefetch_after(const Pass& pass, const Piece& piece) const {
    const bool more_k = piece.p + kBlock < pass.steps;
    const int64_t p = more_k ? piece.p + kBlock : 0, s = more_k ? piece.shared : piece.shared + shape.block_shared;
    Prefetcher prefetch;
    if (s < pass.lines) {
      const int64_t steps = pass.block_steps(p, kBlock), lines = std::min(shape.block_shared, pass.lines - s);
      const bf16* next = packed_shared + (p * pass.strips() + s / kStrip * steps) * kStripElements;
      prefetch.next = reinterpret_cast<const char*>(next);
      prefetch.end = reinterpret_cast<const char*>(next + ceil_div(lines, kStrip) * steps * kStripElements);
    }
    return prefetch;
  }

  /// Sums of the i-th private strip and the j-th shared one of a piece, which stay from one block of k to the next.
  float* kept(const Piece& piece, int64_t i, int64_t j, int64_t me) const {
    if (shape.one_super) return sums + me * shape.block_private * shape.block_shared + (j * piece.strips + i) * kSums;
    const int64_t strips = round_up(shape.privates, shape.block_private) / kStrip;
    return sums + ((piece.shared / kStrip + j) * strips + piece.first / kStrip + i) * kSums;
  }

  void multiply(const Pass& pass, const Piece& piece, const bf16* block, int64_t me) const {
    const bool last = pass.k + piece.p + kBlock >= shape.k;
    const int64_t strip_elements = piece.steps * kStripElements;
    const bf16* y = packed_shared + (piece.p * pass.strips() + piece.shared / kStrip * piece.steps) * kStripElements;
    Prefetcher prefetch = prefetch_after(pass, piece);
    alignas(kCacheLine) float finished[kSums];
    for (int64_t j = 0; j < piece.shared_strips; ++j, y += strip_elements) {
      const bf16* x = block;
      for (int64_t i = 0; i < piece.strips; ++i, x += strip_elements) {
        const int64_t x_line = piece.first + i * kStrip, y_line = pass.line + piece.shared + j * kStrip;
        const int64_t row = shape.rows_private ? x_line : y_line, col = shape.rows_private ? y_line : x_line;
        float* partial = kept(piece, i, j, me);
        if (last) sink.prefetch(prefetch, row, col);
        multiply_strips<T>(shape.rows_private ? x : y, shape.rows_private ? y : x, piece.steps / kTileSteps,
                           pass.k + piece.p == 0 ? nullptr : partial, last ? finished : partial, prefetch);
        if (last) sink.write(finished, row, col);
      }
    }
  }
};

template <class T, class C>
void multiply(const GemmArgs& args) {
  const Shape shape(args);
  bf16* packed_shared = align_to_line<bf16>(args.scratch.data);
  bf16* packed_private = packed_shared + shape.shared_elements();
  float* sums = reinterpret_cast<float*>(packed_private + shape.team * shape.private_elements());
  const Sink<T, C> sink{args.c_MN.as<C>(), shape.m, shape.n, args.accumulate,
                        args.bias_N.defined() ? args.bias_N.as<T>() : nullptr};
  const Product<T, C> product{shape,
                              AmxOperand<T>(args.a.as<T>(), shape.m, shape.k, !args.transpose_a),
                              AmxOperand<T>(args.b.as<T>(), shape.n, shape.k, args.transpose_b),
                              sink,
                              args.bias_grad_M.defined() ? args.bias_grad_M.as<float>() : nullptr,
                              packed_shared,
                              packed_private,
                              sums};
  if (shape.team == 1) {
    product.run(1, 0, [] {});
    return;
  }
#pragma omp parallel num_threads(shape.team)
  product.run(omp_get_num_threads(), omp_get_thread_num(), [] {
#pragma omp barrier
  });
}

}  // namespace

bool gemm_amx_takes(const GemmArgs& args) {
  constexpr int64_t kFew = 16;
  const int64_t k = args.transpose_a ? args.a.dim[0] : args.a.dim[1];
  return (args.a.dtype == DType::bf16 || args.a.dtype == DType::f32) &&
         std::min(args.c_MN.dim[0], args.c_MN.dim[1]) >= kFew && k > 0 && amx_ready();
}

void gemm_amx(const GemmArgs& args) {
  if (args.a.dtype == DType::f32) {
    multiply<float, float>(args);
  } else if (args.c_MN.dtype == DType::f32) {
    multiply<bf16, float>(args);
  } else {
    multiply<bf16, bf16>(args);
  }
}

size_t gemm_amx_scratch_bytes(const GemmArgs& args) {
  const Shape shape(args);
  return kCacheLine +
         static_cast<size_t>(2 * (shape.shared_elements() + shape.team * shape.private_elements()) + 4 * shape.sums());
}

#else

bool gemm_amx_takes(const GemmArgs&) { return false; }
void gemm_amx(const GemmArgs&) { ensure(false, "this build has no AMX"); }
size_t gemm_amx_scratch_bytes(const GemmArgs&) { return 0; }

#endif

}  // namespace trident::cpu
