// Dropout of attention's probabilities for the layout of scores on AMX: queries across, keys down.
#include <cmath>

#include "kernels/cpu/attention_amx_tile.h"
#include "kernels/cpu/philox.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
namespace {

/// Words of 16 queries, from the low halves of the lanes of even and of odd ones.
VecU join_queries(VecU64 even, VecU64 odd) {
  return (VecU)_mm512_mask_shuffle_epi32((__m512i)even, 0xaaaa, (__m512i)odd, _MM_PERM_CCAA);
}

}  // namespace

void attention_keep(const AttentionArgs& args, int64_t sequence, int64_t head, int64_t query, int64_t key, int64_t keys,
                    uint16_t* keep) {
  // A query's four next keys are the four words of one block, so that a lane works for one query and the words of a
  // block go to four keys. Even and odd queries are two vectors; two times four keys hide the multiplier's latency.
  constexpr int kVectors = 4, kWords = 4;
  const int64_t row_blocks = (args.context + 3) / 4;
  const int64_t first_row =
      ((args.first_sequence + sequence) * args.heads_total + args.first_head + head) * args.context + query;
  const VecU64 even_rows = VecU64{0, 2, 4, 6, 8, 10, 12, 14} * static_cast<uint64_t>(row_blocks);
  VecU64 block[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    block[v] = even_rows + static_cast<uint64_t>((first_row + v % 2) * row_blocks + key / kWords + v / 2);
  }
  // uniform01(word) >= p, in whole numbers: word >> 8 >= p 2^24.
  const VecU bar = VecU{} + (static_cast<uint32_t>(std::ceil(args.dropout * 0x1p24f)) << 8);
  for (int64_t j = 0; j < keys; j += kVectors / 2 * kWords) {
    VecU64 word[kWords][kVectors];
    philox_blocks(args.dropout_key, block, word);
    for (int v = 0; v < kVectors; ++v) block[v] += kVectors / 2;
    for (int pair = 0; pair < kVectors / 2; ++pair) {
      for (int w = 0; w < kWords; ++w) {
        const VecU words = join_queries(word[w][2 * pair], word[w][2 * pair + 1]);
        keep[j + pair * kWords + w] = _mm512_cmpge_epu32_mask((__m512i)words, (__m512i)bar);
      }
    }
  }
}

#endif

}  // namespace trident::cpu
