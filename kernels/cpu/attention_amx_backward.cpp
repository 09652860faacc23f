// Causal attention in bf16 on AMX tiles, backward: the algorithm of attention_backward.cpp (Dao et al., arXiv
// 2205.14135, algorithm 4) with its five products of tiles on the matrix unit. Policy: probabilities and gradients of
// scores are rounded to bf16 where they enter a product; all else stays f32. They lie keys down, so that two of the
// three second products take them as they lie and the third takes pairs of rows. A thread owns one kv head of one
// sequence and goes through its query heads one after the other: whatever depends on a query alone is laid out once.
//
// Legend: I queries and J keys of a tile (kTile of each), K head size, P = K rounded up to kAmxStep, C context. _w:
// words of two bf16 in pairs of K (amx.h), q_w[P / 2][I]; _pairs: in pairs of positions, q_pairs[I / 2][P].
#include <limits>

#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_amx_tile.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
namespace {

/// One thread's memory of backward: tiles of keys, and everything of one query head over the whole context.
struct BackwardTiles {
  bf16 *row_JP, *k_JP, *v_JP, *k_PJ, *prob_JI, *dscore_JI;
  uint32_t* dscore_w;
  float *score_JI, *dprob_JI, *factor_JI;
  // Of tile t at t * the size of a tile.
  uint32_t *q_w, *dout_w, *q_pairs, *dout_pairs;
  float *dq_PI, *dk_JP, *dv_JP, *lse_C, *delta_C;

  static size_t floats(int64_t padded, int64_t tiles) {
    const int64_t half = kTile * padded / 2, square = kTile * kTile;
    return static_cast<size_t>(4 * half + 5 * square - square / 2 + tiles * (10 * half + 2 * kTile));
  }
  BackwardTiles(float* memory, int64_t padded, int64_t tiles) {
    Cutter cut(memory);
    const int64_t rows = kTile * padded, square = kTile * kTile;
    row_JP = cut.halves(rows), k_JP = cut.halves(rows), v_JP = cut.halves(rows), k_PJ = cut.halves(rows);
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
    copy_rows(m_.row_JP, qkv_ + first * shape_.qkv_stride + head * size, shape_.qkv_stride, queries, kTile, size,
              padded_);
    transpose_rows(m_.q_w + tile * half(), kTile, m_.row_JP, kTile, padded_);
    pair_rows(m_.q_pairs + tile * half(), m_.row_JP, kTile, padded_);
    const bf16* dout = dout_ + first * shape_.out_stride + head * size;
    const bf16* out = out_ + first * shape_.out_stride + head * size;
    copy_rows(m_.row_JP, dout, shape_.out_stride, queries, kTile, size, padded_);
    transpose_rows(m_.dout_w + tile * half(), kTile, m_.row_JP, kTile, padded_);
    pair_rows(m_.dout_pairs + tile * half(), m_.row_JP, kTile, padded_);
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
    copy_rows(m_.k_JP, row + key_column(), shape_.qkv_stride, keys, kTile, size, padded_);
    copy_rows(m_.v_JP, row + value_column(), shape_.qkv_stride, keys, kTile, size, padded_);
    transpose_halves(m_.k_PJ, kTile, m_.k_JP, kTile, padded_);
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

size_t attention_amx_floats(const AttentionBackwardArgs& args) {
  const AttentionShape shape(args.forward);
  return BackwardTiles::floats(padded_size(shape), shape.tiles);
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

size_t attention_amx_floats(const AttentionBackwardArgs&) { return 0; }
void attention_amx(const AttentionBackwardArgs&) { ensure(false, "this build has no AMX"); }

#endif

}  // namespace trident::cpu
