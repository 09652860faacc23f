// Causal attention, forward: tiles of queries against tiles of keys with a running softmax (Dao et al., arXiv
// 2205.14135). Policy: scores are held transposed, keys down and queries across, so that the softmax runs along vectors
// without horizontal sums, and only the query tile, read once, has to be transposed.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/families.h"

namespace trident::cpu {
namespace {

/// One thread's tiles.
struct ForwardTiles {
  float *q_KI, *k_JP, *v_JP, *out_IP, *score_JI, *max_I, *sum_I, *rescale_I;  // I queries, J keys of a tile

  static size_t floats(const AttentionShape& shape) {
    return static_cast<size_t>(kTile * (4 * shape.padded + kTile + 3));
  }
  ForwardTiles(float* p, const AttentionShape& shape) {
    const int64_t tile = kTile * shape.padded;
    q_KI = p, k_JP = p + tile, v_JP = p + 2 * tile, out_IP = p + 3 * tile;
    score_JI = p + 4 * tile;
    max_I = score_JI + kTile * kTile, sum_I = max_I + kTile, rescale_I = sum_I + kTile;
  }
};

/// Masks the scores, moves the running maximum and sum on, turns scores into probabilities (relative to the maximum).
/// `diagonal`: key j of the tile is visible to queries i >= j.
void update_softmax(const ForwardTiles& tiles, int64_t keys, bool diagonal) {
  const VecF minus_inf = broadcast(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < kTile; i += kLanes) {
    const VecI query = lane_numbers() + static_cast<int32_t>(i);
    const VecF old_max = load(tiles.max_I + i);
    VecF max_i = old_max;
    for (int64_t j = 0; j < keys; ++j) {
      float* score = tiles.score_JI + j * kTile + i;
      if (diagonal) store(score, select(query >= static_cast<int32_t>(j), load(score), minus_inf));
      max_i = max(max_i, load(score));
    }
    const VecF rescale = exp(old_max - max_i);
    VecF sum = load(tiles.sum_I + i) * rescale;
    for (int64_t j = 0; j < keys; ++j) {
      float* score = tiles.score_JI + j * kTile + i;
      const VecF p = exp(load(score) - max_i);
      sum += p;
      store(score, p);
    }
    store(tiles.max_I + i, max_i);
    store(tiles.sum_I + i, sum);
    store(tiles.rescale_I + i, rescale);
  }
}

/// Applies dropout to the tile's probabilities. Factors are made along the keys, probabilities lie along the queries:
/// kLanes queries at a time meet.
void drop_probabilities(const AttentionArgs& args, int64_t sequence, int64_t head, int64_t first_query, int64_t queries,
                        int64_t first_key, int64_t keys, const ForwardTiles& tiles) {
  float factor[kLanes][kTile] = {};
  for (int64_t i = 0; i < queries; i += kLanes) {
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, queries - i); ++lane) {
      attention_dropout(args, sequence, head, first_query + i + lane, first_key, keys, factor[lane]);
    }
    for (int64_t j = 0; j < keys; ++j) {
      VecF across;
      for (int lane = 0; lane < kLanes; ++lane) across[lane] = factor[lane][j];
      float* prob = tiles.score_JI + j * kTile + i;
      store(prob, load(prob) * across);
    }
  }
}

template <class T>
void forward_tile(const AttentionArgs& args, const AttentionShape& shape, int64_t sequence, int64_t head, int64_t tile,
                  const ForwardTiles& tiles) {
  const int64_t kv_head = head / shape.group(), queries = shape.positions(tile), rows = round_to_rows(queries);
  const int64_t first_row = sequence * shape.context;
  const T* qkv = args.qkv.as<T>() + first_row * shape.qkv_stride;
  const T* q = qkv + tile * kTile * shape.qkv_stride + head * shape.head_size;
  const T* k = qkv + (shape.heads + kv_head) * shape.head_size;
  const T* v = k + shape.kv_heads * shape.head_size;

  load_transposed_tile(tiles.q_KI, q, shape.qkv_stride, queries, shape, args.scale);
  std::fill(tiles.out_IP, tiles.out_IP + kTile * shape.padded, 0.0f);
  std::fill(tiles.max_I, tiles.max_I + kTile, -std::numeric_limits<float>::max());
  std::fill(tiles.sum_I, tiles.sum_I + kTile, 0.0f);

  const int64_t key_tiles = args.causal ? tile + 1 : shape.tiles;
  for (int64_t key_tile = 0; key_tile < key_tiles; ++key_tile) {
    const int64_t keys = shape.positions(key_tile), first_key = key_tile * kTile;
    load_tile(tiles.k_JP, k + first_key * shape.qkv_stride, shape.qkv_stride, keys, shape, 1.0f);
    load_tile(tiles.v_JP, v + first_key * shape.qkv_stride, shape.qkv_stride, keys, shape, 1.0f);
    const bool diagonal = args.causal && key_tile == tile;
    tile_product(round_to_rows(keys), kTile, shape.head_size, tiles.k_JP, shape.padded, 1, tiles.q_KI, kTile,
                 tiles.score_JI, kTile, false, diagonal ? Visible::columns_from_row : Visible::all);
    update_softmax(tiles, keys, diagonal);
    for (int64_t i = 0; i < queries; ++i) {
      if (tiles.rescale_I[i] == 1.0f) continue;
      for (int64_t p = 0; p < shape.padded; p += kLanes) {
        store(tiles.out_IP + i * shape.padded + p, load(tiles.out_IP + i * shape.padded + p) * tiles.rescale_I[i]);
      }
    }
    if (args.dropout > 0) drop_probabilities(args, sequence, head, tile * kTile, queries, first_key, keys, tiles);
    tile_product(rows, shape.padded, keys, tiles.score_JI, 1, kTile, tiles.v_JP, shape.padded, tiles.out_IP,
                 shape.padded, true, diagonal ? Visible::sum_to_row : Visible::all);
  }

  float* lse = args.lse.as<float>() + (sequence * shape.heads + head) * shape.context + tile * kTile;
  T* out = args.out.as<T>() + (first_row + tile * kTile) * shape.out_stride + head * shape.head_size;
  for (int64_t i = 0; i < queries; ++i) {
    lse[i] = tiles.max_I[i] + std::log(tiles.sum_I[i]);
    const float inverse = 1.0f / tiles.sum_I[i];
    vector_steps(0, shape.head_size, [&](int64_t p, auto lanes) {
      store(out + i * shape.out_stride + p, load(tiles.out_IP + i * shape.padded + p) * inverse, lanes);
    });
  }
}

}  // namespace

void attention_forward(const AttentionArgs& args) {
  if (attention_takes_amx(args)) return attention_amx(args);
  const AttentionShape shape(args);
  const size_t floats = ForwardTiles::floats(shape);
  const int64_t items = shape.sequences * shape.heads * shape.tiles;
  const ThreadScratch scratch(args.scratch, floats, items, args.qkv.numel());
  with_float(args.qkv.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    // Tiles of one head cost more the later they lie, so they are dealt out one by one.
#pragma omp parallel num_threads(scratch.team())
    {
      const ForwardTiles tiles(scratch.part(omp_get_thread_num()), shape);
#pragma omp for schedule(static, 1)
      for (int64_t item = 0; item < items; ++item) {
        const int64_t tile = item % shape.tiles, head = item / shape.tiles % shape.heads;
        forward_tile<T>(args, shape, item / shape.tiles / shape.heads, head, tile, tiles);
      }
    }
  });
}

size_t attention_scratch_bytes(const AttentionArgs& args) {
  const size_t floats =
      attention_takes_amx(args) ? attention_amx_floats(args) : ForwardTiles::floats(AttentionShape(args));
  return ThreadScratch::bytes(floats, omp_get_max_threads());
}

}  // namespace trident::cpu
