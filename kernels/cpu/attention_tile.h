// What attention's forward and backward share: the shape of a call, tiles in f32, and products of tiles.
//
// Legend: B sequences, C context, H query heads, G kv heads, K head size, P = K rounded up to the micro-kernel's
// columns. A tile holds kTile positions of one head; positions past the context are zeros.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/error.h"
#include "kernels/cpu/micro_kernel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random.h"
#include "kernels/ops.h"

namespace trident::cpu {

/// Positions of a tile: a multiple of every micro-kernel's rows and columns.
inline constexpr int64_t kTile = 96;
static_assert(kTile % kTileRows == 0 && kTile % kTileCols == 0);

struct AttentionShape {
  int64_t sequences, context, heads, kv_heads, head_size;
  int64_t padded;      ///< P
  int64_t tiles;       ///< of a sequence
  int64_t qkv_stride;  ///< elements between rows of qkv
  int64_t out_stride;

  explicit AttentionShape(const AttentionArgs& args)
      : context(args.context), heads(args.heads), kv_heads(args.kv_heads), head_size(args.head_size) {
    sequences = args.qkv.dim[0] / context;
    padded = round_up(head_size, kTileCols);
    tiles = ceil_div(context, kTile);
    qkv_stride = (heads + 2 * kv_heads) * head_size;
    out_stride = heads * head_size;
  }
  int64_t group() const { return heads / kv_heads; }
  int64_t positions(int64_t tile) const { return std::min(kTile, context - tile * kTile); }
};

/// tile[i][0..P) = factor * src[i * stride + 0..K), zeros past `count` rows and past K columns.
template <class T>
void load_tile(float* tile, const T* src, int64_t stride, int64_t count, const AttentionShape& shape, float factor) {
  for (int64_t i = 0; i < count; ++i) {
    float* row = tile + i * shape.padded;
    vector_steps(0, shape.head_size,
                 [&](int64_t k, auto lanes) { store(row + k, load(src + i * stride + k, lanes) * factor); });
    for (int64_t k = round_up(shape.head_size, kLanes); k < shape.padded; k += kLanes) {
      store(row + k, VecF{});
    }
  }
  std::fill(tile + count * shape.padded, tile + kTile * shape.padded, 0.0f);
}

/// tile[k][i] = factor * src[i * stride + k] for k < K: positions across, zeros past `count`.
template <class T>
void load_transposed_tile(float* tile, const T* src, int64_t stride, int64_t count, const AttentionShape& shape,
                          float factor) {
  for (int64_t k = 0; k < shape.head_size; ++k) {
    for (int64_t i = 0; i < count; ++i) tile[k * kTile + i] = static_cast<float>(src[i * stride + k]) * factor;
    std::fill(tile + k * kTile + count, tile + (k + 1) * kTile, 0.0f);
  }
}

/// Which part of a tile's product a causal mask leaves. r is a row, c a column, p the summation index.
enum class Visible : uint8_t {
  all,
  sum_to_row,       ///< terms p <= r only: the rest of a is 0
  sum_from_row,     ///< terms p >= r only
  columns_to_row,   ///< c <= r; other elements may stay unwritten
  columns_from_row  ///< c >= r
};

/// c[rows][cols] (+)= a b: element (r, p) of a at a[r * row_stride + p * k_stride], rows of b and c contiguous.
/// rows is a multiple of kTileRows, cols of kTileCols.
inline void tile_product(int64_t rows, int64_t cols, int64_t k, const float* a, int64_t row_stride, int64_t k_stride,
                         const float* b, int64_t b_stride, float* c, int64_t c_stride, bool accumulate,
                         Visible visible) {
  for (int64_t j = 0; j < cols; j += kTileCols) {
    for (int64_t i = 0; i < rows; i += kTileRows) {
      if (visible == Visible::columns_to_row && j >= i + kTileRows) continue;
      if (visible == Visible::columns_from_row && j + kTileCols <= i) continue;
      const int64_t begin = visible == Visible::sum_from_row ? std::min(i, k) : 0;
      const int64_t end = visible == Visible::sum_to_row ? std::min(i + kTileRows, k) : k;
      micro_kernel<kTileRows>(end - begin, a + i * row_stride + begin * k_stride, row_stride, k_stride,
                              b + begin * b_stride + j, b_stride, c + i * c_stride + j, c_stride, accumulate);
    }
  }
}

inline int64_t round_to_rows(int64_t n) { return round_up(n, kTileRows); }

/// factor[0..count): dropout of keys [key, key + count) for one query (the word layout of AttentionArgs).
inline void attention_dropout(const AttentionArgs& args, int64_t sequence, int64_t head, int64_t query, int64_t key,
                              int64_t count, float* factor) {
  const int64_t padded_context = (args.context + 3) / 4 * 4;
  const int64_t row =
      ((args.first_sequence + sequence) * args.heads_total + args.first_head + head) * args.context + query;
  dropout_factors(args.dropout_key,
                  static_cast<uint64_t>(row) * static_cast<uint64_t>(padded_context) + static_cast<uint64_t>(key),
                  count, args.dropout, factor);
}

/// One thread's floats of scratch, each thread's a whole number of cache lines.
inline constexpr size_t kLineFloats = 16;
inline size_t round_to_lines(size_t floats) { return round_up(floats, kLineFloats); }

/// Scratch cut into one part per thread, aligned to cache lines: vectors that straddle lines cost a fifth of the speed.
class ThreadScratch {
 public:
  static size_t bytes(size_t floats, int threads) {
    return sizeof(float) * (round_to_lines(floats) * static_cast<size_t>(threads) + kLineFloats);
  }
  /// As many threads as `items` deserve and scratch has room for. Results do not depend on it.
  ThreadScratch(const Tensor& scratch, size_t floats, int64_t items, int64_t work) : floats_(round_to_lines(floats)) {
    ensure(scratch.bytes() >= bytes(floats, 1), "attention: scratch holds scratch_bytes(args)");
    const size_t room = (scratch.bytes() / sizeof(float) - kLineFloats) / floats_;
    team_ = static_cast<int>(std::min<int64_t>(team_size(items, work), static_cast<int64_t>(room)));
    constexpr uintptr_t kLine = kLineFloats * sizeof(float);
    first_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data) + kLine - 1) / kLine * kLine);
  }
  int team() const { return team_; }
  float* part(int thread) const { return first_ + floats_ * static_cast<size_t>(thread); }

 private:
  size_t floats_;
  int team_;
  float* first_;
};

}  // namespace trident::cpu
