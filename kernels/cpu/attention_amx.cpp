// Causal attention in bf16 on AMX tiles: the algorithm of attention.cpp and attention_backward.cpp (Dao et al., arXiv
// 2205.14135) with every product of tiles on the matrix unit. Policy: probabilities and gradients of scores are rounded
// to bf16 where they enter a product, as the inputs are; scores, sums and the softmax stay f32. Forward holds scores
// queries down, so that they are the left operand of the second product as they lie; backward holds them keys down, so
// that two of its three second products take them as they lie and the third takes pairs of rows.
//
// Legend: I queries and J keys of a tile (kTile of each), K head size, P = K rounded up to kAmxStep, C context. _w:
// words of two bf16, in pairs along the dimension that is summed (amx.h): q_w[P / 2][I] pairs of K, dout_w[I / 2][P]
// pairs of I.
#include "kernels/cpu/attention_amx.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/attention_tile.h"

namespace trident::cpu {

#if defined(__AVX512F__)
namespace {

static_assert(kTile % kAmxStep == 0);

int64_t padded_size(const AttentionShape& shape) { return round_to_amx(shape.head_size); }

/// Hands out runs of a thread's floats, as whatever lies there.
class Cutter {
 public:
  explicit Cutter(float* at) : at_(at) {}
  float* floats(int64_t n) { return std::exchange(at_, at_ + n); }
  bf16* halves(int64_t n) { return reinterpret_cast<bf16*>(floats(n / 2)); }
  uint32_t* words(int64_t n) { return reinterpret_cast<uint32_t*>(floats(n)); }

 private:
  float* at_;
};

/// rows[0..kTile)[0..padded) = src rows, zeros past `count` rows and past the head size.
void copy_rows(bf16* rows, const bf16* src, int64_t stride, int64_t count, int64_t size, int64_t padded) {
  if (size < padded || count < kTile) std::fill(rows, rows + kTile * padded, bf16(0.0f));
  for (int64_t i = 0; i < count; ++i) std::copy_n(src + i * stride, size, rows + i * padded);
}

/// words[p][i] = word p of row i of rows[kTile][padded].
void transpose_rows(uint32_t* words, const bf16* rows, int64_t padded) {
  const auto* in = reinterpret_cast<const uint32_t*>(rows);
  const int64_t width = padded / 2;
  for (int64_t i = 0; i < kTile; i += 16) {
    for (int64_t p = 0; p < width; p += 16) transpose_words(words + p * kTile + i, kTile, in + i * width + p, width);
  }
}

/// words[i][p] = (rows[2i][p], rows[2i + 1][p]).
void pair_rows(uint32_t* words, const bf16* rows, int64_t padded) {
  for (int64_t i = 0; i < kTile / 2; ++i) {
    for (int64_t p = 0; p < padded; p += 16) {
      VecU16 even, odd;
      std::memcpy(&even, rows + 2 * i * padded + p, sizeof even);
      std::memcpy(&odd, rows + (2 * i + 1) * padded + p, sizeof odd);
      const VecU pair = pair_words(even, odd);
      std::memcpy(words + i * padded + p, &pair, sizeof pair);
    }
  }
}

/// columns[p][j] = rows[j][p], from the words of transpose_rows.
void split_words(bf16* columns, const uint32_t* words, int64_t padded) {
  for (int64_t p = 0; p < padded / 2; ++p) {
    for (int64_t j = 0; j < kTile; j += 16) {
      VecU pair;
      std::memcpy(&pair, words + p * kTile + j, sizeof pair);
      const VecU16 even = __builtin_convertvector(pair & 0xffffu, VecU16),
                   odd = __builtin_convertvector(pair >> 16, VecU16);
      std::memcpy(static_cast<void*>(columns + 2 * p * kTile + j), &even, sizeof even);
      std::memcpy(static_cast<void*>(columns + (2 * p + 1) * kTile + j), &odd, sizeof odd);
    }
  }
}

VecI lane_numbers() {
  VecI v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

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

/// One thread's memory of backward: tiles of keys, and everything of one query head over the whole context.
struct BackwardTiles {
  bf16 *row_JP, *k_JP, *v_JP, *k_PJ, *prob_JI, *dscore_JI;
  uint32_t *k_w, *dscore_w;
  float *score_JI, *dprob_JI, *factor_JI;
  // Of tile t at t * the size of a tile.
  uint32_t *q_w, *dout_w, *q_pairs, *dout_pairs;
  float *dq_PI, *dk_JP, *dv_JP, *lse_C, *delta_C;

  static size_t floats(int64_t padded, int64_t tiles) {
    const int64_t half = kTile * padded / 2, square = kTile * kTile;
    return static_cast<size_t>(5 * half + 5 * square - square / 2 + tiles * (10 * half + 2 * kTile));
  }
  BackwardTiles(float* memory, int64_t padded, int64_t tiles) {
    Cutter cut(memory);
    const int64_t rows = kTile * padded, square = kTile * kTile;
    row_JP = cut.halves(rows), k_JP = cut.halves(rows), v_JP = cut.halves(rows), k_PJ = cut.halves(rows);
    k_w = cut.words(rows / 2);
    prob_JI = cut.halves(square), dscore_JI = cut.halves(square), dscore_w = cut.words(square / 2);
    score_JI = cut.floats(square), dprob_JI = cut.floats(square), factor_JI = cut.floats(square);
    q_w = cut.words(tiles * rows / 2), dout_w = cut.words(tiles * rows / 2);
    q_pairs = cut.words(tiles * rows / 2), dout_pairs = cut.words(tiles * rows / 2);
    dq_PI = cut.floats(tiles * rows), dk_JP = cut.floats(tiles * rows), dv_JP = cut.floats(tiles * rows);
    lse_C = cut.floats(tiles * kTile), delta_C = cut.floats(tiles * kTile);
  }
};

/// One (sequence, kv head): its query heads one after the other.
class HeadBackward {
 public:
  HeadBackward(const AttentionBackwardArgs& args, const AttentionShape& shape, int64_t sequence, int64_t kv_head,
               const BackwardTiles& tiles)
      : args_(args.forward), shape_(shape), sequence_(sequence), kv_head_(kv_head), m_(tiles) {
    padded_ = padded_size(shape);
    const int64_t row = sequence * shape.context;
    qkv_ = args.forward.qkv.as<bf16>() + row * shape.qkv_stride;
    dqkv_ = args.dqkv.as<bf16>() + row * shape.qkv_stride;
    out_ = args.forward.out.as<bf16>() + row * shape.out_stride;
    dout_ = args.dout.as<bf16>() + row * shape.out_stride;
    lse_ = args.forward.lse.as<float>() + sequence * shape.heads * shape.context;
  }

  void run() const {
    const int64_t floats = shape_.tiles * kTile * padded_;
    std::fill(m_.dk_JP, m_.dk_JP + floats, 0.0f);
    std::fill(m_.dv_JP, m_.dv_JP + floats, 0.0f);
    for (int64_t member = 0; member < shape_.group(); ++member) {
      const int64_t head = kv_head_ * shape_.group() + member;
      std::fill(m_.dq_PI, m_.dq_PI + floats, 0.0f);
      for (int64_t tile = 0; tile < shape_.tiles; ++tile) load_queries(head, tile);
      for (int64_t key_tile = 0; key_tile < shape_.tiles; ++key_tile) {
        load_keys(key_tile);
        for (int64_t tile = args_.causal ? key_tile : 0; tile < shape_.tiles; ++tile) run_pair(head, tile, key_tile);
      }
      for (int64_t tile = 0; tile < shape_.tiles; ++tile) store_dq(head, tile);
    }
    store_rows(m_.dk_JP, key_column(), args_.scale);
    store_rows(m_.dv_JP, value_column(), 1.0f);
  }

 private:
  int64_t key_column() const { return (shape_.heads + kv_head_) * shape_.head_size; }
  int64_t value_column() const { return key_column() + shape_.kv_heads * shape_.head_size; }
  int64_t half() const { return kTile * padded_ / 2; }

  /// q, dout, lse and delta of a tile of queries; delta = sum over K of dout * out, the softmax gradient's common term.
  void load_queries(int64_t head, int64_t tile) const {
    const int64_t first = tile * kTile, queries = shape_.positions(tile), size = shape_.head_size;
    copy_rows(m_.row_JP, qkv_ + first * shape_.qkv_stride + head * size, shape_.qkv_stride, queries, size, padded_);
    transpose_rows(m_.q_w + tile * half(), m_.row_JP, padded_);
    pair_rows(m_.q_pairs + tile * half(), m_.row_JP, padded_);
    const bf16* dout = dout_ + first * shape_.out_stride + head * size;
    const bf16* out = out_ + first * shape_.out_stride + head * size;
    copy_rows(m_.row_JP, dout, shape_.out_stride, queries, size, padded_);
    transpose_rows(m_.dout_w + tile * half(), m_.row_JP, padded_);
    pair_rows(m_.dout_pairs + tile * half(), m_.row_JP, padded_);
    // A query past the context gets probabilities of 0.
    std::fill(m_.lse_C + first, m_.lse_C + first + kTile, std::numeric_limits<float>::max());
    std::fill(m_.delta_C + first, m_.delta_C + first + kTile, 0.0f);
    std::copy_n(lse_ + head * shape_.context + first, queries, m_.lse_C + first);
    for (int64_t i = 0; i < queries; ++i) {
      VecF sum = {};
      vector_steps(0, size, [&](int64_t k, auto lanes) {
        sum += load(out + i * shape_.out_stride + k, lanes) * load(dout + i * shape_.out_stride + k, lanes);
      });
      m_.delta_C[first + i] = sum_lanes(sum);
    }
  }

  void load_keys(int64_t key_tile) const {
    const int64_t first = key_tile * kTile, keys = shape_.positions(key_tile), size = shape_.head_size;
    const bf16* row = qkv_ + first * shape_.qkv_stride;
    copy_rows(m_.k_JP, row + key_column(), shape_.qkv_stride, keys, size, padded_);
    copy_rows(m_.v_JP, row + value_column(), shape_.qkv_stride, keys, size, padded_);
    transpose_rows(m_.k_w, m_.k_JP, padded_);
    split_words(m_.k_PJ, m_.k_w, padded_);
  }

  /// One tile of queries of one head against the current tile of keys.
  void run_pair(int64_t head, int64_t tile, int64_t key_tile) const {
    const int64_t queries = shape_.positions(tile), keys = shape_.positions(key_tile);
    const int64_t rows = round_to_amx(keys), columns = round_to_amx(queries);
    amx_product(rows, columns, padded_, m_.k_JP, padded_, m_.q_w + tile * half(), kTile, m_.score_JI, kTile, false);
    amx_product(rows, columns, padded_, m_.v_JP, padded_, m_.dout_w + tile * half(), kTile, m_.dprob_JI, kTile, false);
    if (args_.dropout > 0) make_factors(head, tile, key_tile);
    for (int64_t j = 0; j < rows; j += 2)
      backpropagate_softmax(j, tile, keys, columns, args_.causal && tile == key_tile);
    amx_product(rows, padded_, columns, m_.prob_JI, kTile, m_.dout_pairs + tile * half(), padded_,
                m_.dv_JP + key_tile * kTile * padded_, padded_, true);
    amx_product(rows, padded_, columns, m_.dscore_JI, kTile, m_.q_pairs + tile * half(), padded_,
                m_.dk_JP + key_tile * kTile * padded_, padded_, true);
    amx_product(padded_, columns, rows, m_.k_PJ, kTile, m_.dscore_w, kTile, m_.dq_PI + tile * kTile * padded_, kTile,
                true);
  }

  /// Keys j and j + 1: scores become dropped-out probabilities, gradients of those become gradients of the scores; 0
  /// where the key is none or not visible.
  void backpropagate_softmax(int64_t j, int64_t tile, int64_t keys, int64_t columns, bool diagonal) const {
    const float* lse = m_.lse_C + tile * kTile;
    const float* delta = m_.delta_C + tile * kTile;
    for (int64_t i = 0; i < columns; i += kLanes) {
      const VecI query = lane_numbers() + static_cast<int32_t>(i);
      VecU16 dscore[2];
      for (int64_t row = j; row < j + 2; ++row) {
        const int64_t at = row * kTile + i;
        const VecF p = exp(load(m_.score_JI + at) * args_.scale - load(lse + i));
        const VecF factor = args_.dropout > 0 ? load(m_.factor_JI + at) : broadcast(1.0f);
        const VecI first_query = VecI{} + static_cast<int32_t>(row < keys ? (diagonal ? row : 0) : kTile);
        const VecI visible = query >= first_query;
        store(m_.prob_JI + at, select(visible, p * factor, VecF{}));
        const VecF ds = p * (load(m_.dprob_JI + at) * factor - load(delta + i));
        store(m_.dscore_JI + at, select(visible, ds, VecF{}));
        std::memcpy(&dscore[row - j], m_.dscore_JI + at, sizeof dscore[0]);
      }
      const VecU pair = pair_words(dscore[0], dscore[1]);
      std::memcpy(m_.dscore_w + j / 2 * kTile + i, &pair, sizeof pair);
    }
  }

  /// factor[j][i]; factors are made along the keys.
  void make_factors(int64_t head, int64_t tile, int64_t key_tile) const {
    const int64_t keys = shape_.positions(key_tile);
    std::fill(m_.factor_JI, m_.factor_JI + kTile * kTile, 0.0f);
    for (int64_t i = 0; i < shape_.positions(tile); ++i) {
      float factor[kTile];
      attention_dropout(args_, sequence_, head, tile * kTile + i, key_tile * kTile, keys, factor);
      for (int64_t j = 0; j < keys; ++j) m_.factor_JI[j * kTile + i] = factor[j];
    }
  }

  void store_dq(int64_t head, int64_t tile) const {
    const float* dq_PI = m_.dq_PI + tile * kTile * padded_;
    for (int64_t i = 0; i < shape_.positions(tile); i += 16) {
      for (int64_t p = 0; p < padded_; p += 16) {
        float block[16 * 16];
        transpose_words(reinterpret_cast<uint32_t*>(block), 16,
                        reinterpret_cast<const uint32_t*>(dq_PI + p * kTile + i), kTile);
        for (int64_t row = i; row < std::min(i + 16, shape_.positions(tile)); ++row) {
          bf16* out = dqkv_ + (tile * kTile + row) * shape_.qkv_stride + head * shape_.head_size + p;
          vector_steps(0, std::min<int64_t>(16, shape_.head_size - p), [&](int64_t k, auto lanes) {
            store(out + k, load(block + (row - i) * 16 + k) * args_.scale, lanes);
          });
        }
      }
    }
  }

  /// dqkv of all positions, columns from `column`, = rows * factor.
  void store_rows(const float* rows, int64_t column, float factor) const {
    for (int64_t t = 0; t < shape_.context; ++t) {
      bf16* out = dqkv_ + t * shape_.qkv_stride + column;
      vector_steps(0, shape_.head_size,
                   [&](int64_t k, auto lanes) { store(out + k, load(rows + t * padded_ + k) * factor, lanes); });
    }
  }

  const AttentionArgs& args_;
  const AttentionShape& shape_;
  int64_t sequence_, kv_head_, padded_;
  const BackwardTiles& m_;
  const bf16* qkv_;
  bf16* dqkv_;
  const bf16* out_;
  const bf16* dout_;
  const float* lse_;
};

}  // namespace

bool attention_takes_amx(const AttentionArgs& args) {
  // Shorter contexts fill no tile.
  return args.qkv.dtype == DType::bf16 && args.context >= kAmxStep && amx_ready();
}

size_t attention_amx_floats(const AttentionArgs& args) {
  return ForwardTiles::floats(padded_size(AttentionShape(args)));
}

size_t attention_amx_floats(const AttentionBackwardArgs& args) {
  const AttentionShape shape(args.forward);
  return BackwardTiles::floats(padded_size(shape), shape.tiles);
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

void attention_amx(const AttentionBackwardArgs& args) {
  const AttentionShape shape(args.forward);
  const int64_t items = shape.sequences * shape.kv_heads;
  const ThreadScratch scratch(args.scratch, attention_amx_floats(args), items, args.forward.qkv.numel());
#pragma omp parallel num_threads(scratch.team())
  {
    const AmxTiles amx;
    const BackwardTiles tiles(scratch.part(omp_get_thread_num()), padded_size(shape), shape.tiles);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      HeadBackward(args, shape, item / shape.kv_heads, item % shape.kv_heads, tiles).run();
    }
  }
}

#else

bool attention_takes_amx(const AttentionArgs&) { return false; }
size_t attention_amx_floats(const AttentionArgs&) { return 0; }
size_t attention_amx_floats(const AttentionBackwardArgs&) { return 0; }
void attention_amx(const AttentionArgs&) { ensure(false, "this build has no AMX"); }
void attention_amx(const AttentionBackwardArgs&) { ensure(false, "this build has no AMX"); }

#endif

}  // namespace trident::cpu
