// Brings a matrix of bf16 into the order in which AMX wants its tiles.
//
// Legend: a "line" is a row of the left operand or a column of the right one; k is the summed dimension. A tile is 16
// lines by 32 steps of k, 1 KiB. Left tiles hold a line in each row; right tiles hold a pair of steps in each row and a
// line in each column of words (kernels/cpu/amx.h).
#pragma once

#include <algorithm>

#include "kernels/cpu/amx.h"

namespace trident::cpu {

inline constexpr int64_t kTileLines = 16;
inline constexpr int64_t kTileSteps = 32;
inline constexpr int64_t kTileElements = kTileLines * kTileSteps;

enum class TileSide : uint8_t { left, right };

/// One operand of a product: element (line, k) is at data[line * line_stride + k * k_stride], one of the strides is 1.
struct AmxOperand {
  const bf16* data;
  int64_t lines, steps;
  int64_t line_stride, k_stride;

  AmxOperand(const bf16* p, int64_t line_count, int64_t k, bool k_contiguous)
      : data(p),
        lines(line_count),
        steps(k),
        line_stride(k_contiguous ? k : 1),
        k_stride(k_contiguous ? 1 : line_count) {}
};

#if defined(__AVX512F__)

/// The tile whose first element is (line, k); what lies beyond the matrix becomes 0. The sum of a matrix that does not
/// lie along k, over the steps of this tile, joins `line_sums` of its 16 lines unless that is nullptr.
template <TileSide side>
inline void pack_tile(bf16* out, const AmxOperand& m, int64_t line, int64_t k, float* line_sums = nullptr) {
  const bool by_lines = m.k_stride == 1;
  const bf16* in = m.data + line * m.line_stride + k * m.k_stride;
  int64_t stride = by_lines ? m.line_stride : m.k_stride;
  const int64_t lines = std::max<int64_t>(0, m.lines - line), steps = std::max<int64_t>(0, m.steps - k);
  bf16 edge[kTileElements];
  if (lines < kTileLines || steps < kTileSteps) {
    const int64_t rows = by_lines ? kTileLines : kTileSteps, columns = kTileElements / rows;
    const int64_t have_rows = std::min(rows, by_lines ? lines : steps);
    const int64_t have_columns = std::min(columns, by_lines ? steps : lines);
    std::memset(static_cast<void*>(edge), 0, sizeof edge);
    for (int64_t i = 0; i < have_rows; ++i) {
      std::memcpy(static_cast<void*>(edge + i * columns), in + i * stride, static_cast<size_t>(have_columns) * 2);
    }
    in = edge;
    stride = columns;
  }

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
  VecF sum = {};
  for (int64_t i = 0; i < kTileSteps; i += 2) {
    VecU16 even, odd;
    __builtin_prefetch(in + (i + kTileSteps) * stride);
    __builtin_prefetch(in + (i + 1 + kTileSteps) * stride);
    std::memcpy(&even, in + i * stride, sizeof even);
    std::memcpy(&odd, in + (i + 1) * stride, sizeof odd);
    const VecU pair = pair_words(even, odd);
    std::memcpy(words + i / 2 * kTileLines, &pair, sizeof pair);
    if (line_sums != nullptr) {
      sum += (VecF)(pair << 16);
      sum += (VecF)(pair & 0xffff0000u);
    }
  }
  if (line_sums != nullptr)
    vector_steps(0, std::min(lines, kTileLines),
                 [&](int64_t i, auto lanes) { store(line_sums + i, load(line_sums + i, lanes) + sum, lanes); });
  if (side == TileSide::left) transpose_words(reinterpret_cast<uint32_t*>(out), kTileLines, pairs, kTileLines);
}

#endif

}  // namespace trident::cpu
