// Brings a matrix of bf16, or of f32 in three bf16 parts, into the order in which AMX wants its tiles.
//
// Legend: a "line" is a row of the left operand or a column of the right one; k is the summed dimension. A tile is 16
// lines by 32 steps of k, 1 KiB. Left tiles hold a line in each row; right tiles hold a pair of steps in each row and a
// line in each column of words (kernels/cpu/amx.h). Parts: x = x0 + x1 + x2, x0 the nearest bf16 to x, x1 the nearest
// to x - x0: 24 bits in three times 8, exact but for what lies below bf16's smallest normal number (1.2e-38). An
// infinite x has a NaN for its parts.
#pragma once

#include <algorithm>

#include "kernels/cpu/amx.h"

namespace trident::cpu {

inline constexpr int64_t kTileLines = 16;
inline constexpr int64_t kTileSteps = 32;
inline constexpr int64_t kTileElements = kTileLines * kTileSteps;

enum class TileSide : uint8_t { left, right };

/// bf16 numbers that stand for one element.
template <class T>
inline constexpr int64_t kParts = sizeof(T) == sizeof(bf16) ? 1 : 3;

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

#if defined(__AVX512F__)

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

/// A tile of bf16, whose rows lie along k (`by_lines`) or along the lines, in AMX's order.
template <TileSide side>
inline void order_tile(bf16* out, const bf16* in, int64_t stride, bool by_lines) {
  constexpr int64_t kAhead = 128;
  alignas(64) uint32_t pairs[kTileElements / 2];
  uint32_t* words = side == TileSide::right || by_lines ? reinterpret_cast<uint32_t*>(out) : pairs;
  if (by_lines) {
    VecU row[kTileLines];
    for (int64_t i = 0; i < kTileLines; ++i) {
      __builtin_prefetch(in + i * stride + kAhead);
      std::memcpy(&row[i], in + i * stride, sizeof(VecU));
    }
    if (side == TileSide::right) transpose_rows(row);
    for (int64_t i = 0; i < kTileLines; ++i) std::memcpy(words + i * kTileLines, &row[i], sizeof(VecU));
    return;
  }
  for (int64_t i = 0; i < kTileSteps; i += 2) {
    VecU16 even, odd;
    __builtin_prefetch(in + (i + kTileSteps) * stride);
    __builtin_prefetch(in + (i + 1 + kTileSteps) * stride);
    std::memcpy(&even, in + i * stride, sizeof even);
    std::memcpy(&odd, in + (i + 1) * stride, sizeof odd);
    const VecU pair = pair_words(even, odd);
    std::memcpy(words + i / 2 * kTileLines, &pair, sizeof pair);
  }
  if (side == TileSide::left) transpose_words(reinterpret_cast<uint32_t*>(out), kTileLines, pairs, kTileLines);
}

/// The tile whose first element is (line, k); its parts lie `part` elements apart. The sum of a matrix that does not
/// lie along k, over the steps of this tile, joins `line_sums` of its 16 lines unless that is nullptr.
template <TileSide side, class T>
inline void pack_tile(bf16* out, int64_t part, const AmxOperand<T>& m, int64_t line, int64_t k, float* line_sums) {
  const bool by_lines = m.k_stride == 1;
  const TileSource<T> source(m, line, k);
  if constexpr (kParts<T> == 1) {
    order_tile<side>(out, source.data, source.stride, by_lines);
  } else {
    alignas(64) bf16 parts[kParts<T>][kTileElements];
    const int64_t columns = by_lines ? kTileSteps : kTileLines;
    for (int64_t i = 0, at = 0; at < kTileElements; ++i) {
      for (int64_t j = 0; j < columns; j += kLanes, at += kLanes) {
        VecF rest = load(source.data + i * source.stride + j);
        for (auto& tile : parts) {
          store(tile + at, rest);
          rest -= load(tile + at);
        }
      }
    }
    for (int64_t i = 0; i < kParts<T>; ++i) order_tile<side>(out + i * part, parts[i], columns, by_lines);
  }
  if (line_sums == nullptr) return;
  VecF sum = {};
  for (int64_t i = 0; i < kTileSteps; ++i) sum += load(source.data + i * source.stride);
  vector_steps(0, std::clamp<int64_t>(m.lines - line, 0, kTileLines),
               [&](int64_t i, auto lanes) { store(line_sums + i, load(line_sums + i, lanes) + sum, lanes); });
}

#endif

}  // namespace trident::cpu
