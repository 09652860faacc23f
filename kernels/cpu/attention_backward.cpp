// Attention, backward: probabilities are recomputed from the log-sum-exp, tile by tile (Dao et al., arXiv 2205.14135,
// algorithm 4). Policy: a thread owns one kv head of one sequence: its dk and dv, and dq of the query heads that read
// it; nothing is shared, so the sums have one order whatever the number of threads.
#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/families.h"

namespace trident::cpu {
namespace {

/// One thread's tiles, and dq of its whole group of heads.
struct BackwardTiles {
  float *k_JP, *k_KJ, *v_KJ, *q_IP, *dout_IP, *dk_JP, *dv_JP;  // I queries, J keys of a tile
  float *prob_IJ, *dscore_IJ;
  float *dq_CP, *delta_C;  // for each head of the group in turn, C rounded up to tiles

  static size_t floats(const AttentionShape& shape) {
    const int64_t rows = shape.group() * shape.tiles * kTile;
    return static_cast<size_t>(7 * kTile * shape.padded + 2 * kTile * kTile + rows * (shape.padded + 1));
  }
  BackwardTiles(float* p, const AttentionShape& shape) {
    const int64_t tile = kTile * shape.padded;
    k_JP = p, k_KJ = p + tile, v_KJ = p + 2 * tile, q_IP = p + 3 * tile, dout_IP = p + 4 * tile, dk_JP = p + 5 * tile;
    dv_JP = p + 6 * tile;
    prob_IJ = p + 7 * tile, dscore_IJ = prob_IJ + kTile * kTile;
    dq_CP = dscore_IJ + kTile * kTile;
    delta_C = dq_CP + shape.group() * shape.tiles * kTile * shape.padded;
  }
};

/// One (sequence, kv head).
template <class T>
class HeadBackward {
 public:
  HeadBackward(const AttentionBackwardArgs& args, const AttentionShape& shape, int64_t sequence, int64_t kv_head,
               const BackwardTiles& tiles)
      : args_(args.forward), shape_(shape), sequence_(sequence), kv_head_(kv_head), tiles_(tiles) {
    const int64_t row = sequence * shape.context;
    qkv_ = args.forward.qkv.as<T>() + row * shape.qkv_stride;
    dqkv_ = args.dqkv.as<T>() + row * shape.qkv_stride;
    out_ = args.forward.out.as<T>() + row * shape.out_stride;
    dout_ = args.dout.as<T>() + row * shape.out_stride;
    lse_ = args.forward.lse.as<float>() + sequence * shape.heads * shape.context;
  }

  void run() const {
    const int64_t padded_context = shape_.tiles * kTile;
    std::fill(tiles_.dq_CP, tiles_.dq_CP + shape_.group() * padded_context * shape_.padded, 0.0f);
    for (int64_t member = 0; member < shape_.group(); ++member) compute_delta(member);
    for (int64_t key_tile = 0; key_tile < shape_.tiles; ++key_tile) run_key_tile(key_tile);
    for (int64_t member = 0; member < shape_.group(); ++member) {
      store_rows(tiles_.dq_CP + member * padded_context * shape_.padded, head(member) * shape_.head_size, 0,
                 shape_.context, args_.scale);
    }
  }

 private:
  int64_t head(int64_t member) const { return kv_head_ * shape_.group() + member; }
  int64_t key_column() const { return (shape_.heads + kv_head_) * shape_.head_size; }
  int64_t value_column() const { return key_column() + shape_.kv_heads * shape_.head_size; }

  /// delta = sum over K of dout * out: the softmax gradient's common term.
  void compute_delta(int64_t member) const {
    float* delta = tiles_.delta_C + member * shape_.tiles * kTile;
    for (int64_t t = 0; t < shape_.context; ++t) {
      const int64_t at = t * shape_.out_stride + head(member) * shape_.head_size;
      VecF sum = {};
      vector_steps(0, shape_.head_size,
                   [&](int64_t k, auto lanes) { sum += load(out_ + at + k, lanes) * load(dout_ + at + k, lanes); });
      delta[t] = sum_lanes(sum);
    }
  }

  void run_key_tile(int64_t key_tile) const {
    const int64_t first_key = key_tile * kTile, keys = shape_.positions(key_tile);
    const T* k = qkv_ + first_key * shape_.qkv_stride + key_column();
    const T* v = qkv_ + first_key * shape_.qkv_stride + value_column();
    load_tile(tiles_.k_JP, k, shape_.qkv_stride, keys, shape_, 1.0f);
    load_transposed_tile(tiles_.k_KJ, k, shape_.qkv_stride, keys, shape_, 1.0f);
    load_transposed_tile(tiles_.v_KJ, v, shape_.qkv_stride, keys, shape_, 1.0f);
    std::fill(tiles_.dk_JP, tiles_.dk_JP + kTile * shape_.padded, 0.0f);
    std::fill(tiles_.dv_JP, tiles_.dv_JP + kTile * shape_.padded, 0.0f);
    for (int64_t member = 0; member < shape_.group(); ++member) {
      for (int64_t tile = args_.causal ? key_tile : 0; tile < shape_.tiles; ++tile) run_pair(member, tile, key_tile);
    }
    store_rows(tiles_.dk_JP, key_column(), first_key, keys, 1.0f);
    store_rows(tiles_.dv_JP, value_column(), first_key, keys, 1.0f);
  }

  /// One tile of queries of one head against the current tile of keys.
  void run_pair(int64_t member, int64_t tile, int64_t key_tile) const {
    const int64_t first_query = tile * kTile, queries = shape_.positions(tile), keys = shape_.positions(key_tile);
    const bool diagonal = args_.causal && tile == key_tile;
    const int64_t head_size = shape_.head_size, padded = shape_.padded, rows = round_to_rows(queries);
    load_tile(tiles_.q_IP, qkv_ + first_query * shape_.qkv_stride + head(member) * head_size, shape_.qkv_stride,
              queries, shape_, args_.scale);
    load_tile(tiles_.dout_IP, dout_ + first_query * shape_.out_stride + head(member) * head_size, shape_.out_stride,
              queries, shape_, 1.0f);
    const Visible columns = diagonal ? Visible::columns_to_row : Visible::all;
    tile_product(rows, kTile, head_size, tiles_.q_IP, padded, 1, tiles_.k_KJ, kTile, tiles_.prob_IJ, kTile, false,
                 columns);
    tile_product(rows, kTile, head_size, tiles_.dout_IP, padded, 1, tiles_.v_KJ, kTile, tiles_.dscore_IJ, kTile, false,
                 columns);
    for (int64_t i = 0; i < queries; ++i) {
      backpropagate_softmax(member, first_query, i, key_tile * kTile, diagonal ? std::min(keys, i + 1) : keys);
    }
    const int64_t key_rows = round_to_rows(keys);
    const Visible from_row = diagonal ? Visible::sum_from_row : Visible::all;
    tile_product(key_rows, padded, queries, tiles_.prob_IJ, 1, kTile, tiles_.dout_IP, padded, tiles_.dv_JP, padded,
                 true, from_row);
    tile_product(key_rows, padded, queries, tiles_.dscore_IJ, 1, kTile, tiles_.q_IP, padded, tiles_.dk_JP, padded, true,
                 from_row);
    float* dq = tiles_.dq_CP + (member * shape_.tiles * kTile + first_query) * padded;
    tile_product(rows, padded, keys, tiles_.dscore_IJ, kTile, 1, tiles_.k_JP, padded, dq, padded, true,
                 diagonal ? Visible::sum_to_row : Visible::all);
  }

  /// Row i: scores become dropped-out probabilities, gradients of those become gradients of the scores; keys past
  /// `visible` become 0.
  void backpropagate_softmax(int64_t member, int64_t first_query, int64_t i, int64_t first_key, int64_t visible) const {
    const int64_t query = first_query + i;
    const float lse = lse_[head(member) * shape_.context + query];
    const float delta = tiles_.delta_C[member * shape_.tiles * kTile + query];
    float* prob = tiles_.prob_IJ + i * kTile;
    float* dscore = tiles_.dscore_IJ + i * kTile;
    float factor[kTile];
    const bool drop = args_.dropout > 0;
    if (drop) attention_dropout(args_, sequence_, head(member), query, first_key, visible, factor);
    vector_steps(0, visible, [&](int64_t j, auto lanes) {
      const VecF p = exp(load(prob + j, lanes) - lse);
      VecF kept = p, dp = load(dscore + j, lanes);
      if (drop) {
        const VecF f = load(factor + j, lanes);
        kept = p * f;
        dp = dp * f;
      }
      store(prob + j, kept, lanes);
      store(dscore + j, p * (dp - delta), lanes);
    });
    std::fill(prob + visible, prob + kTile, 0.0f);
    std::fill(dscore + visible, dscore + kTile, 0.0f);
  }

  /// dqkv rows [first, first + count), columns from `column`, = tile * factor.
  void store_rows(const float* tile, int64_t column, int64_t first, int64_t count, float factor) const {
    for (int64_t i = 0; i < count; ++i) {
      T* out = dqkv_ + (first + i) * shape_.qkv_stride + column;
      vector_steps(0, shape_.head_size,
                   [&](int64_t k, auto lanes) { store(out + k, load(tile + i * shape_.padded + k) * factor, lanes); });
    }
  }

  const AttentionArgs& args_;
  const AttentionShape& shape_;
  int64_t sequence_, kv_head_;
  const BackwardTiles& tiles_;
  const T* qkv_;
  T* dqkv_;
  const T* out_;
  const T* dout_;
  const float* lse_;
};

}  // namespace

void attention_backward(const AttentionBackwardArgs& args) {
  if (attention_takes_amx(args.forward)) return attention_amx(args);
  const AttentionShape shape(args.forward);
  const size_t floats = BackwardTiles::floats(shape);
  const int64_t items = shape.sequences * shape.kv_heads;
  const ThreadScratch scratch(args.scratch, floats, items, args.forward.qkv.numel());
  with_float(args.forward.qkv.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
#pragma omp parallel num_threads(scratch.team())
    {
      const BackwardTiles tiles(scratch.part(omp_get_thread_num()), shape);
#pragma omp for schedule(static)
      for (int64_t item = 0; item < items; ++item) {
        HeadBackward<T>(args, shape, item / shape.kv_heads, item % shape.kv_heads, tiles).run();
      }
    }
  });
}

size_t attention_scratch_bytes(const AttentionBackwardArgs& args) {
  const size_t floats = attention_takes_amx(args.forward) ? attention_amx_floats(args)
                                                          : BackwardTiles::floats(AttentionShape(args.forward));
  return ThreadScratch::bytes(floats, omp_get_max_threads());
}

}  // namespace trident::cpu
