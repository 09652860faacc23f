// Causal attention in bf16 on AMX tiles, forward: the algorithm of attention.cpp (Dao et al., arXiv 2205.14135) with
// both products of tiles on the matrix unit. Policy: probabilities are rounded to bf16 where they enter a product, as
// the inputs are; scores, sums and the softmax stay f32. Scores lie queries down, so that they are the left operand of
// the second product as they lie.
//
// Legend: I queries and J keys of a tile (kTile of each), K head size, P = K rounded up to kAmxStep. _w: words of two
// bf16, in pairs along the dimension that is summed (amx.h).
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_amx_tile.h"

namespace trident::cpu {

#if defined(__AVX512F__)
namespace {

/// One thread's tiles of forward.
struct ForwardTiles {
  bf16 *q_IP, *kv_JP, *prob_IJ;
  uint32_t *k_w, *v_w;
  float *out_IP, *score_IJ, *max_I, *sum_I;

  static size_t floats(int64_t padded) {
    return static_cast<size_t>(kTile * (padded / 2 * 4 + padded + kTile + kTile / 2 + 2));
  }
  ForwardTiles(float* memory, int64_t padded) {
    Cutter cut(memory);
    q_IP = cut.halves(kTile * padded), kv_JP = cut.halves(kTile * padded), prob_IJ = cut.halves(kTile * kTile);
    k_w = cut.words(kTile * padded / 2), v_w = cut.words(kTile * padded / 2);
    out_IP = cut.floats(kTile * padded), score_IJ = cut.floats(kTile * kTile);
    max_I = cut.floats(kTile), sum_I = cut.floats(kTile);
  }
};

/// Row i of scores, unscaled, of which `visible` keys count, becomes dropped-out probabilities relative to the running
/// maximum; the maximum, sum and output move on.
void softmax_row(const AttentionArgs& args, const ForwardTiles& tiles, int64_t padded, int64_t i, int64_t visible,
                 const float* factor) {
  float* score = tiles.score_IJ + i * kTile;
  const float minus_inf = -std::numeric_limits<float>::infinity();
  VecF largest = broadcast(minus_inf);
  vector_steps(0, visible, [&](int64_t j, auto lanes) {
    largest = max(largest, fill_tail(load(score + j, lanes) * args.scale, minus_inf, lanes));
  });
  const float old_max = tiles.max_I[i], new_max = std::max(old_max, max_lanes(largest));
  VecF sum = {};
  vector_steps(0, visible, [&](int64_t j, auto lanes) {
    const VecF p = fill_tail(exp(load(score + j, lanes) * args.scale - new_max), 0.0f, lanes);
    sum += p;
    store(tiles.prob_IJ + i * kTile + j, factor == nullptr ? p : p * load(factor + j, lanes));
  });
  std::fill(tiles.prob_IJ + i * kTile + visible, tiles.prob_IJ + (i + 1) * kTile, bf16(0.0f));
  const float rescale = exp(broadcast(old_max - new_max))[0];
  tiles.max_I[i] = new_max;
  tiles.sum_I[i] = tiles.sum_I[i] * rescale + sum_lanes(sum);
  if (rescale == 1.0f) return;
  float* out = tiles.out_IP + i * padded;
  for (int64_t p = 0; p < padded; p += kLanes) store(out + p, load(out + p) * rescale);
}

void forward_tile(const AttentionArgs& args, const AttentionShape& shape, int64_t sequence, int64_t head, int64_t tile,
                  const ForwardTiles& tiles) {
  const int64_t kv_head = head / shape.group(), queries = shape.positions(tile), padded = padded_size(shape);
  const int64_t first_row = sequence * shape.context, stride = shape.qkv_stride, size = shape.head_size;
  const bf16* qkv = args.qkv.as<bf16>() + first_row * stride;
  const bf16* k = qkv + (shape.heads + kv_head) * size;
  const bf16* v = k + shape.kv_heads * size;

  copy_rows(tiles.q_IP, qkv + tile * kTile * stride + head * size, stride, queries, size, padded);
  std::fill(tiles.out_IP, tiles.out_IP + kTile * padded, 0.0f);
  std::fill(tiles.max_I, tiles.max_I + kTile, -std::numeric_limits<float>::max());
  std::fill(tiles.sum_I, tiles.sum_I + kTile, 0.0f);
  std::fill(tiles.prob_IJ, tiles.prob_IJ + kTile * kTile, bf16(0.0f));

  const int64_t rows = round_to_amx(queries), key_tiles = args.causal ? tile + 1 : shape.tiles;
  for (int64_t key_tile = 0; key_tile < key_tiles; ++key_tile) {
    const int64_t keys = shape.positions(key_tile), first_key = key_tile * kTile, columns = round_to_amx(keys);
    copy_rows(tiles.kv_JP, k + first_key * stride, stride, keys, size, padded);
    transpose_rows(tiles.k_w, tiles.kv_JP, padded);
    copy_rows(tiles.kv_JP, v + first_key * stride, stride, keys, size, padded);
    pair_rows(tiles.v_w, tiles.kv_JP, padded);
    amx_product(rows, columns, padded, tiles.q_IP, padded, tiles.k_w, kTile, tiles.score_IJ, kTile, false);
    const bool diagonal = args.causal && key_tile == tile;
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t visible = diagonal ? i + 1 : keys;
      float factor[kTile];
      if (args.dropout > 0) attention_dropout(args, sequence, head, tile * kTile + i, first_key, visible, factor);
      softmax_row(args, tiles, padded, i, visible, args.dropout > 0 ? factor : nullptr);
    }
    amx_product(rows, padded, columns, tiles.prob_IJ, kTile, tiles.v_w, padded, tiles.out_IP, padded, true);
  }

  float* lse = args.lse.as<float>() + (sequence * shape.heads + head) * shape.context + tile * kTile;
  bf16* out = args.out.as<bf16>() + (first_row + tile * kTile) * shape.out_stride + head * size;
  for (int64_t i = 0; i < queries; ++i) {
    lse[i] = tiles.max_I[i] + std::log(tiles.sum_I[i]);
    const float inverse = 1.0f / tiles.sum_I[i];
    vector_steps(0, size, [&](int64_t p, auto lanes) {
      store(out + i * shape.out_stride + p, load(tiles.out_IP + i * padded + p) * inverse, lanes);
    });
  }
}

}  // namespace

bool attention_takes_amx(const AttentionArgs& args) {
  // Shorter contexts fill no tile.
  return args.qkv.dtype == DType::bf16 && args.context >= kAmxStep && amx_ready();
}

size_t attention_amx_floats(const AttentionArgs& args) {
  return ForwardTiles::floats(padded_size(AttentionShape(args)));
}

void attention_amx(const AttentionArgs& args) {
  const AttentionShape shape(args);
  const int64_t items = shape.sequences * shape.heads * shape.tiles;
  const ThreadScratch scratch(args.scratch, attention_amx_floats(args), items, args.qkv.numel());
#pragma omp parallel num_threads(scratch.team())
  {
    const AmxTiles amx;
    const ForwardTiles tiles(scratch.part(omp_get_thread_num()), padded_size(shape));
    // Tiles of one head cost more the later they lie, so they are dealt out one by one.
#pragma omp for schedule(static, 1)
    for (int64_t item = 0; item < items; ++item) {
      const int64_t tile = item % shape.tiles, head = item / shape.tiles % shape.heads;
      forward_tile(args, shape, item / shape.tiles / shape.heads, head, tile, tiles);
    }
  }
}

#else

bool attention_takes_amx(const AttentionArgs&) { return false; }
size_t attention_amx_floats(const AttentionArgs&) { return 0; }
void attention_amx(const AttentionArgs&) { ensure(false, "this build has no AMX"); }

#endif

}  // namespace trident::cpu
