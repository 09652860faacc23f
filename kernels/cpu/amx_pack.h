// Brings a matrix of bf16, or of f32 in three bf16 parts, into the order in which AMX wants its tiles.
//
// Legend: a "line" is a row of the left operand or a column of the right one; k is the summed dimension. A tile is 16
// lines by 32 steps of k, 1 KiB. Left tiles hold a line in each row; right tiles hold a pair of steps in each row and a
// line in each column of words (kernels/cpu/amx.h, which also says what parts are).
#pragma once

#include <algorithm>

#include "kernels/cpu/amx.h"

namespace trident::cpu {

inline constexpr int64_t kTileLines = 16;
inline constexpr int64_t kTileSteps = 32;
inline constexpr int64_t kTileElements = kTileLines * kTileSteps;

enum class TileSide : uint8_t { left, right };

/// One operand of a product: element (line, k) is at data[line * line_stride + k * k_stride], one of the strides is 1.
template <class T>
struct AmxOperand {
  const T* data;
  int64_t lines, steps;
  int64_t line_stride, k_stride;

  AmxOperand(const T* p, int64_t line_count, int64_t k, bool k_contiguous)
      : data(p),
        lines(line_count),
        steps(k),
        line_stride(k_contiguous ? k : 1),
        k_stride(k_contiguous ? 1 : line_count) {}
};

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

/// The 16 lines by 32 steps of a matrix from (line, k), as they lie in memory: rows along k, or along the lines. What
/// lies beyond the matrix is 0.
template <class T>
struct TileSource {
  const T* data;
  int64_t stride;  // elements between rows
  T edge[kTileElements];

  TileSource(const AmxOperand<T>& m, int64_t line, int64_t k)
      : data(m.data + line * m.line_stride + k * m.k_stride), stride(m.k_stride == 1 ? m.line_stride : m.k_stride) {
    const bool by_lines = m.k_stride == 1;
    const int64_t lines = std::max<int64_t>(0, m.lines - line), steps = std::max<int64_t>(0, m.steps - k);
    if (lines >= kTileLines && steps >= kTileSteps) return;
    const int64_t rows = by_lines ? kTileLines : kTileSteps, columns = kTileElements / rows;
    const int64_t have_rows = std::min(rows, by_lines ? lines : steps);
    const int64_t have_columns = std::min(columns, by_lines ? steps : lines);
    std::memset(static_cast<void*>(edge), 0, sizeof edge);
    for (int64_t i = 0; i < have_rows; ++i) {
      std::memcpy(static_cast<void*>(edge + i * columns), data + i * stride,
                  static_cast<size_t>(have_columns) * sizeof(T));
    }
    data = edge;
    stride = columns;
  }
};

/// Elements ahead of those packed now, along the rows of the source, that are fetched: two tiles of what comes next.
constexpr int64_t kAhead = 64;

/// The 16 rows of words of a tile, two bf16 that are neighbours along k in a word: a line in each row when the matrix
/// lies along k (`by_lines`), else a pair of steps.
inline void words_of_tile(VecU (&rows)[1][kTileLines], const bf16* in, int64_t stride, bool by_lines) {
  for (int64_t i = 0; i < kTileLines; ++i) {
    const bf16* row = in + (by_lines ? i : 2 * i) * stride;
    __builtin_prefetch(row + 2 * kAhead);
    if (by_lines) {
      std::memcpy(&rows[0][i], row, sizeof(VecU));
      continue;
    }
    VecU16 even, odd;
    __builtin_prefetch(row + stride + 2 * kAhead);
    std::memcpy(&even, row, sizeof even);
    std::memcpy(&odd, row + stride, sizeof odd);
    rows[0][i] = pair_words(even, odd);
  }
}

/// The same of the three parts of f32.
inline void words_of_tile(VecU (&rows)[3][kTileLines], const float* in, int64_t stride, bool by_lines) {
  for (int64_t i = 0; i < kTileLines; ++i) {
    const float* row = in + (by_lines ? i : 2 * i) * stride;
    const float* second = row + (by_lines ? kLanes : stride);
    __builtin_prefetch(row + kAhead);
    __builtin_prefetch(second + kAhead);
    VecF even = load(row), odd = load(second);
    if (by_lines) load_pairs(row, even, odd);
    VecU words[3];
    split_pairs(words, even, odd);
    for (int64_t n = 0; n < 3; ++n) rows[n][i] = words[n];
  }
}

/// The tile whose first element is (line, k); its parts lie `part` elements apart. The sum of a matrix that does not
/// lie along k, over the steps of this tile, joins `line_sums` of its 16 lines unless that is nullptr.
template <TileSide side, class T>
inline void pack_tile(bf16* out, int64_t part, const AmxOperand<T>& m, int64_t line, int64_t k, float* line_sums) {
  const bool by_lines = m.k_stride == 1;
  const TileSource<T> source(m, line, k);
  VecU rows[kParts<T>][kTileLines];
  words_of_tile(rows, source.data, source.stride, by_lines);
  for (int64_t i = 0; i < kParts<T>; ++i, out += part) {
    if ((side == TileSide::right) == by_lines) transpose_rows(rows[i]);
    for (int64_t j = 0; j < kTileLines; ++j) {
      std::memcpy(static_cast<void*>(out + j * kTileSteps), &rows[i][j], sizeof(VecU));
    }
  }
  if (line_sums == nullptr) return;
  VecF sum = {};
  for (int64_t i = 0; i < kTileSteps; ++i) sum += load(source.data + i * source.stride);
  vector_steps(0, std::clamp<int64_t>(m.lines - line, 0, kTileLines),
               [&](int64_t i, auto lanes) { store(line_sums + i, load(line_sums + i, lanes) + sum, lanes); });
}

#endif

}  // namespace trident::cpu
