// Where a block works, and which probabilities of a fragment count: causality, the end of the context, dropout. Layout
// of fragments: attention_tile.cuh.
#pragma once

#include "core/base/rng.h"
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/element.h"

namespace trident::cuda::attention {

/// The tile, head and sequence of a block. blockIdx.x counts tiles, then heads, then sequences: blocks that run at a
/// time share a head's keys in the L2 cache.
struct Place {
  int tile, head;
  int64_t head_of_all, sequence;
  SIMT_DEV Place(int tiles, int heads)
      : tile(static_cast<int>(blockIdx.x % static_cast<unsigned>(tiles))),
        head(0),
        head_of_all(blockIdx.x / static_cast<unsigned>(tiles)),
        sequence(head_of_all / heads) {
    head = static_cast<int>(head_of_all - sequence * heads);
  }
};

/// The row of a fragment's element i, and its column, within the warp's scores.
SIMT_DEV int fragment_row(int m, int i) { return m * 16 + i / 2 * 8 + static_cast<int>(threadIdx.x & 31) / 4; }
SIMT_DEV int fragment_column(int n, int i) { return n * 8 + static_cast<int>(threadIdx.x & 3) * 2 + i % 2; }

/// Whether a query sees a key.
SIMT_DEV bool sees(const Geometry& g, int query, int key) { return key < g.context && (!g.causal || key <= query); }

/// Whether each query from `query` on sees every key up to `last_key`.
SIMT_DEV bool sees_all(const Geometry& g, int query, int last_key) {
  return last_key < g.context && (!g.causal || last_key <= query);
}

/// Scores of keys that a query doesn't see become -inf. Rows are queries from `query` on and columns keys from `key`
/// on, or the other way round.
template <bool kRowsAreKeys, int kM, int kN>
SIMT_DEV void hide_unseen(float (&s)[kM][kN][4], const Geometry& g, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = fragment_row(m, i), column = fragment_column(n, i);
        if (!sees(g, query + (kRowsAreKeys ? column : row), key + (kRowsAreKeys ? row : column)))
          s[m][n][i] = -INFINITY;
      }
}

/// Number of the Philox block that holds (sequence, head, query 0, keys 0 to 3).
SIMT_DEV uint64_t first_dropout_block(const Geometry& g, int64_t sequence, int head) {
  const Dropout& d = g.dropout;
  const uint64_t row = d.first_head + static_cast<uint64_t>(sequence) * d.heads_total + static_cast<uint64_t>(head);
  return row * static_cast<uint64_t>(g.context) * d.blocks;
}

/// Bit k says that word k of a Philox block keeps its element.
SIMT_DEV uint32_t keep_bits(const Dropout& d, uint64_t block) {
  const auto words = philox(d.key, block);
  return static_cast<uint32_t>(words[0] >= d.threshold) | static_cast<uint32_t>(words[1] >= d.threshold) << 1 |
         static_cast<uint32_t>(words[2] >= d.threshold) << 2 | static_cast<uint32_t>(words[3] >= d.threshold) << 3;
}

/// What dropout keeps of 16 x 8 kN scores, kN <= 8. Each thread draws one Philox block for each 8 columns and gets the
/// bits that its neighbours drew by shuffle: no word is drawn twice.
template <int kN>
struct KeptScores {
  static_assert(kN <= 8, "4 bits for each 8 columns");
  uint32_t word[4];

  SIMT_DEV bool keeps(int n, int i) const { return word[i] >> (4 * n) & 1; }

  /// Rows are queries from `query` on, columns keys from `key` on (a multiple of 8). The 4 keys of a block lie in two
  /// neighbouring threads, and each thread has rows r and r + 8: the even one draws for r, the odd one for r + 8.
  SIMT_DEV static KeptScores of_query_rows(const Dropout& d, uint64_t first_block, int query, int key) {
    const int odd = threadIdx.x & 1, row = query + static_cast<int>(threadIdx.x & 31) / 4 + odd * 8;
    const uint64_t block = first_block + static_cast<uint64_t>(row) * d.blocks + static_cast<uint64_t>(key / 4) +
                           static_cast<uint64_t>(threadIdx.x >> 1 & 1);
    uint32_t own = 0;
#pragma unroll 2
    for (int n = 0; n < kN; ++n) own |= keep_bits(d, block + static_cast<uint64_t>(2 * n)) << (4 * n);
    const uint32_t other = __shfl_xor_sync(kWarp, own, 1);
    KeptScores kept;
#pragma unroll
    for (int i = 0; i < 4; ++i) kept.word[i] = (i / 2 == odd ? own : other) >> (odd * 2 + i % 2);
    return kept;
  }

  /// Rows are keys, columns queries. The 4 keys of a block lie in 4 threads of different rows, and these hold parts of
  /// 4 blocks (elements 0 to 3: two queries, two groups of keys): thread j of the four draws the block of elements j.
  SIMT_DEV static KeptScores of_key_rows(const Dropout& d, uint64_t first_block, int query, int key) {
    const int lane = threadIdx.x & 31, j = lane / 4 % 4;
    const int column = query + lane % 4 * 2 + j % 2, row = key + j / 2 * 8 + lane / 16 * 4;
    const uint64_t block = first_block + static_cast<uint64_t>(column) * d.blocks + static_cast<uint64_t>(row / 4);
    uint32_t own = 0;
#pragma unroll 2
    for (int n = 0; n < kN; ++n) own |= keep_bits(d, block + static_cast<uint64_t>(8 * n) * d.blocks) << (4 * n);
    KeptScores kept;
#pragma unroll
    for (int i = 0; i < 4; ++i) kept.word[i] = __shfl_sync(kWarp, own, (lane & 0x13) | i << 2) >> j;
    return kept;
  }
};

}  // namespace trident::cuda::attention
