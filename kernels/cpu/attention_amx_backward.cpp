// Causal attention in bf16 and f32 on AMX tiles, backward: the algorithm of attention_backward.cpp (Dao et al., arXiv
// 2205.14135, algorithm 4) with its five products on the matrix unit. Policy: probabilities and gradients of scores are
// rounded to bf16 where they enter a product, or f32 is split into parts; all else stays f32. They lie keys down, so
// that two of the three second products take them as they lie and the third takes pairs of rows. A thread owns one kv
// head of one sequence and goes through its query heads one after the other: whatever depends on a query alone is laid
// out once.
//
// Legend: I queries and J keys of a block (kQueries, kKeys), K head size, P = K rounded up to kAmxStep, C context. A
// strip is kStrip x kStrip scores. _w: words of two bf16 in pairs of K (amx.h), q_w[P / 2][I]; _pairs: in pairs of
// positions, q_pairs[I / 2][P]. Where T is f32, a block of any operand is followed by its other parts.
#include <limits>

#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_amx_tile.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
namespace {

// A row of strips stays in L1, a block's gradients of scores in L2. All that is laid out of a head's queries is read
// once for each block of keys: with three parts it does not fit into L2, and fewer, larger blocks read it less often.
constexpr int64_t kStrip = 32, kQueries = 128;
template <class T>
inline constexpr int64_t kKeys = kParts<T> == 1 ? 64 : 128;
constexpr int64_t kRow = kQueries + kStrip;  // 32 keys of one power of two apart would meet in few sets of L1
static_assert(kStrip == kAmxStep && kQueries % kStrip == 0);

int64_t query_blocks(const AttentionShape& shape) { return ceil_div(shape.context, kQueries); }

/// One thread's memory of backward: blocks of keys, and everything of one query head over the whole context.
template <class T>
struct BackwardTiles {
  bf16 *row_IP, *k_JP, *v_JP, *k_PJ;
  bf16 *prob_JI, *dscore_JI;  ///< of a row of strips: [kStrip][kRow]
  uint32_t* dscore_w;         ///< in pairs of keys: [J / 2][I]
  float *score_strip, *dprob_strip;
  uint16_t* keep_IJ;  ///< of 16 queries each: [I / 16][J]
  // Of query block b at b times the size of a block, of all parts.
  uint32_t *q_w, *dout_w, *q_pairs, *dout_pairs;
  float *dq_PI, *dk_CP, *dv_CP;
  float *lse_C, *delta_C;  ///< lse times log2(e); minus delta

  static size_t floats(const AttentionShape& shape) {
    const int64_t padded = padded_size(shape), blocks = query_blocks(shape), block = kQueries * padded;
    const int64_t keys = kKeys<T> * padded, operands = block / 2 + 3 * keys / 2 + kStrip * kRow;
    return static_cast<size_t>(kParts<T> * (operands + kKeys<T> * kQueries / 2 + blocks * 2 * block) +
                               2 * kStrip * kStrip + kQueries / 16 * kKeys<T> / 2 +
                               blocks * (3 * block + 2 * kQueries));
  }
  BackwardTiles(float* memory, const AttentionShape& shape) {
    const int64_t padded = padded_size(shape), blocks = query_blocks(shape), block = kQueries * padded;
    const int64_t keys = kParts<T> * kKeys<T> * padded, strips = kParts<T> * kStrip * kRow;
    const int64_t queries = kParts<T> * blocks * block / 2;
    Cutter cut(memory);
    row_IP = cut.halves(kParts<T> * block), k_JP = cut.halves(keys), v_JP = cut.halves(keys), k_PJ = cut.halves(keys);
    prob_JI = cut.halves(strips), dscore_JI = cut.halves(strips);
    dscore_w = cut.words(kParts<T> * kKeys<T> * kQueries / 2);
    score_strip = cut.floats(kStrip * kStrip), dprob_strip = cut.floats(kStrip * kStrip);
    keep_IJ = reinterpret_cast<uint16_t*>(cut.halves(kQueries / 16 * kKeys<T>));
    q_w = cut.words(queries), dout_w = cut.words(queries);
    q_pairs = cut.words(queries), dout_pairs = cut.words(queries);
    dq_PI = cut.floats(blocks * block), dk_CP = cut.floats(blocks * block), dv_CP = cut.floats(blocks * block);
    lse_C = cut.floats(blocks * kQueries), delta_C = cut.floats(blocks * kQueries);
  }
};

/// One key of a strip: probabilities and gradients of scores of its 32 queries, as bf16 in parts.
template <class T>
struct SoftmaxRow {
  __m512i prob[kParts<T>], dscore[kParts<T>];
};

/// One (sequence, kv head): its query heads one after the other.
template <class T>
class HeadBackward {
 public:
  HeadBackward(const AttentionBackwardArgs& args, const AttentionShape& shape, int64_t sequence, int64_t kv_head,
               const BackwardTiles<T>& tiles)
      : args_(args.forward), shape_(shape), sequence_(sequence), kv_head_(kv_head), m_(tiles) {
    padded_ = padded_size(shape);
    const int64_t row = sequence * shape.context;
    qkv_ = args.forward.qkv.as<T>() + row * shape.qkv_stride;
    dqkv_ = args.dqkv.as<T>() + row * shape.qkv_stride;
    out_ = args.forward.out.as<T>() + row * shape.out_stride;
    dout_ = args.dout.as<T>() + row * shape.out_stride;
    lse_ = args.forward.lse.as<float>() + sequence * shape.heads * shape.context;
    keep_factor_ = 1.0f / (1.0f - args_.dropout);
  }

  void run() const {
    const int64_t floats = query_blocks(shape_) * kQueries * padded_;
    std::fill(m_.dk_CP, m_.dk_CP + floats, 0.0f);
    std::fill(m_.dv_CP, m_.dv_CP + floats, 0.0f);
    for (int64_t member = 0; member < shape_.group(); ++member) {
      const int64_t head = kv_head_ * shape_.group() + member;
      std::fill(m_.dq_PI, m_.dq_PI + floats, 0.0f);
      for (int64_t query = 0; query < shape_.context; query += kQueries) load_queries(head, query);
      for (int64_t key = 0; key < shape_.context; key += kKeys<T>) {
        load_keys(key);
        for (int64_t query = args_.causal ? key / kQueries * kQueries : 0; query < shape_.context; query += kQueries) {
          run_pair(head, query, key);
        }
      }
      for (int64_t query = 0; query < shape_.context; query += kQueries) store_dq(head, query);
    }
    store_rows(m_.dk_CP, key_column(), args_.scale);
    store_rows(m_.dv_CP, value_column(), keep_factor_);
  }

 private:
  int64_t key_column() const { return (shape_.heads + kv_head_) * shape_.head_size; }
  int64_t value_column() const { return key_column() + shape_.kv_heads * shape_.head_size; }

  /// q, dout, lse and delta of a block of queries; delta = sum over K of dout * out, the softmax gradient's common
  /// term.
  void load_queries(int64_t head, int64_t first) const {
    const int64_t queries = std::min(kQueries, shape_.context - first), size = shape_.head_size;
    const T* q = qkv_ + first * shape_.qkv_stride + head * size;
    const T* dout = dout_ + first * shape_.out_stride + head * size;
    const T* out = out_ + first * shape_.out_stride + head * size;
    lay_out(m_.q_w, m_.q_pairs, first, q, shape_.qkv_stride, queries);
    lay_out(m_.dout_w, m_.dout_pairs, first, dout, shape_.out_stride, queries);
    // A query past the context gets probabilities of 0.
    std::fill(m_.lse_C + first, m_.lse_C + first + kQueries, std::numeric_limits<float>::infinity());
    std::fill(m_.delta_C + first, m_.delta_C + first + kQueries, 0.0f);
    for (int64_t i = 0; i < queries; ++i) {
      VecF sum = {};
      vector_steps(0, size, [&](int64_t k, auto lanes) {
        sum += load(out + i * shape_.out_stride + k, lanes) * load(dout + i * shape_.out_stride + k, lanes);
      });
      m_.delta_C[first + i] = -sum_lanes(sum);
      m_.lse_C[first + i] = lse_[head * shape_.context + first + i] * kLog2E;
    }
  }

  /// Rows of a block of queries from `first` on, in both orders.
  void lay_out(uint32_t* words, uint32_t* pairs, int64_t first, const T* rows, int64_t stride, int64_t queries) const {
    const int64_t part = kQueries * padded_, at = kParts<T> * first * padded_ / 2;
    copy_rows(m_.row_IP, part, rows, stride, queries, kQueries, shape_.head_size, padded_);
    for (int64_t n = 0; n < kParts<T>; ++n) {
      transpose_rows(words + at + n * part / 2, kQueries, m_.row_IP + n * part, kQueries, padded_);
      pair_rows(pairs + at + n * part / 2, m_.row_IP + n * part, kQueries, padded_);
    }
  }

  void load_keys(int64_t first) const {
    const int64_t keys = std::min(kKeys<T>, shape_.context - first), size = shape_.head_size, part = kKeys<T> * padded_;
    const T* row = qkv_ + first * shape_.qkv_stride;
    copy_rows(m_.k_JP, part, row + key_column(), shape_.qkv_stride, keys, kKeys<T>, size, padded_);
    copy_rows(m_.v_JP, part, row + value_column(), shape_.qkv_stride, keys, kKeys<T>, size, padded_);
    for (int64_t n = 0; n < kParts<T>; ++n) {
      transpose_halves(m_.k_PJ + n * part, kKeys<T>, m_.k_JP + n * part, kKeys<T>, padded_);
    }
  }

  /// Block of queries from `query` on of one head against the current block of keys, from `key` on.
  void run_pair(int64_t head, int64_t query, int64_t key) const {
    const int64_t queries = std::min(kQueries, shape_.context - query), keys = std::min(kKeys<T>, shape_.context - key);
    const int64_t rows = round_to_amx(keys), end = round_to_amx(queries);
    // Queries before the block's first key see none of it.
    const int64_t begin = args_.causal ? std::max<int64_t>(0, key - query) / kStrip * kStrip : 0;
    if (args_.dropout > 0) {
      for (int64_t i = begin; i < end; i += kLanes) {
        attention_keep(args_, sequence_, head, query + i, key, rows, m_.keep_IJ + i / kLanes * kKeys<T>);
      }
    }
    for (int64_t j = 0; j < rows; j += kStrip) run_row(query, key, j, keys, end);
    constexpr int64_t kPart = kKeys<T> * kQueries / 2;
    for (int64_t i = begin; i < end; i += kStrip) {
      const int64_t seen = args_.causal ? std::min(rows, round_to_amx(query + i + 1 - key)) : rows;
      amx_product<kParts<T>>(padded_, kStrip, seen, m_.k_PJ, kKeys<T>, kKeys<T> * padded_, m_.dscore_w + i, kQueries,
                             kPart, m_.dq_PI + query * padded_ + i, kQueries, true);
    }
  }

  /// Keys [j, j + kStrip) of the block against the queries before `end` that see them.
  void run_row(int64_t query, int64_t key, int64_t j, int64_t keys, int64_t end) const {
    const int64_t begin = args_.causal ? std::max<int64_t>(0, key + j - query) / kStrip * kStrip : 0;
    if (begin >= end) return;
    for (int64_t i = begin; i < end; i += kStrip) run_strip(query, key, i, j, keys);
    const int64_t at = (kParts<T> * query + begin) * padded_ / 2, q_part = kQueries * padded_ / 2;
    const int64_t to = (key + j) * padded_;
    amx_product<kParts<T>>(kStrip, padded_, end - begin, m_.prob_JI + begin, kRow, kStrip * kRow, m_.dout_pairs + at,
                           padded_, q_part, m_.dv_CP + to, padded_, true);
    amx_product<kParts<T>>(kStrip, padded_, end - begin, m_.dscore_JI + begin, kRow, kStrip * kRow, m_.q_pairs + at,
                           padded_, q_part, m_.dk_CP + to, padded_, true);
  }

  /// Probabilities and gradients of scores of queries [i, i + kStrip) and keys [j, j + kStrip) of a pair of blocks.
  void run_strip(int64_t query, int64_t key, int64_t i, int64_t j, int64_t keys) const {
    const int64_t words = kParts<T> * query * padded_ / 2 + i, q_part = kQueries * padded_ / 2;
    const int64_t row = j * padded_, key_part = kKeys<T> * padded_;
    amx_product<kParts<T>>(kStrip, kStrip, padded_, m_.k_JP + row, padded_, key_part, m_.q_w + words, kQueries, q_part,
                           m_.score_strip, kStrip, false);
    amx_product<kParts<T>>(kStrip, kStrip, padded_, m_.v_JP + row, padded_, key_part, m_.dout_w + words, kQueries,
                           q_part, m_.dprob_strip, kStrip, false);
    const bool whole = j + kStrip <= keys && (!args_.causal || query + i >= key + j + kStrip - 1);
    if (args_.dropout > 0) {
      whole ? softmax_strip<true, true>(query, key, i, j, keys) : softmax_strip<true, false>(query, key, i, j, keys);
    } else {
      whole ? softmax_strip<false, true>(query, key, i, j, keys) : softmax_strip<false, false>(query, key, i, j, keys);
    }
  }

  /// Scores become dropped-out probabilities, gradients of those become gradients of the scores; 0 where the key is
  /// none or not visible, which is nowhere if `whole`.
  template <bool dropout, bool whole>
  void softmax_strip(int64_t query, int64_t key, int64_t i, int64_t j, int64_t keys) const {
    const VecF lse[2] = {load(m_.lse_C + query + i), load(m_.lse_C + query + i + kLanes)};
    const VecF minus_delta[2] = {load(m_.delta_C + query + i), load(m_.delta_C + query + i + kLanes)};
    const float factor = args_.scale * kLog2E;
    const VecF keep_factor = broadcast(keep_factor_);
    const auto row = [&](int64_t at) {
      uint32_t kept = ~uint32_t{0}, seen = ~uint32_t{0};
      if constexpr (dropout) {
        const uint16_t* keep = m_.keep_IJ + i / kLanes * kKeys<T> + j + at;
        kept = keep[0] | static_cast<uint32_t>(keep[kKeys<T>]) << 16;
      }
      if constexpr (!whole) seen = seen_queries(query + i, key + j + at, j + at < keys);
      VecF p[2], ds[2];
      for (int h = 0; h < 2; ++h) {
        p[h] = exp2(load(m_.score_strip + at * kStrip + h * kLanes) * factor - lse[h]);
        if constexpr (!whole) {
          p[h] = (VecF)_mm512_maskz_mov_ps(static_cast<__mmask16>(seen >> 16 * h), (__m512)p[h]);
        }
        VecF dp = load(m_.dprob_strip + at * kStrip + h * kLanes);
        if constexpr (dropout) {
          const auto keep = static_cast<__mmask16>(kept >> 16 * h);
          dp = (VecF)_mm512_mask3_fmadd_ps((__m512)dp, (__m512)keep_factor, (__m512)minus_delta[h], keep);
        } else {
          dp += minus_delta[h];
        }
        ds[h] = p[h] * dp;
      }
      SoftmaxRow<T> split;
      split_row(split.prob, p[0], p[1], kept);
      split_row(split.dscore, ds[0], ds[1]);
      return split;
    };
    for (int64_t at = 0; at < kStrip; at += 2) {
      const SoftmaxRow<T> even = row(at), odd = row(at + 1);
      for (int64_t n = 0; n < kParts<T>; ++n) {
        const int64_t to = (n * kStrip + at) * kRow + i;
        std::memcpy(static_cast<void*>(m_.prob_JI + to), &even.prob[n], sizeof(__m512i));
        std::memcpy(static_cast<void*>(m_.prob_JI + to + kRow), &odd.prob[n], sizeof(__m512i));
        std::memcpy(static_cast<void*>(m_.dscore_JI + to), &even.dscore[n], sizeof(__m512i));
        std::memcpy(static_cast<void*>(m_.dscore_JI + to + kRow), &odd.dscore[n], sizeof(__m512i));
        interleave_rows(m_.dscore_w + (n * kKeys<T> + j + at) / 2 * kQueries + i, even.dscore[n], odd.dscore[n]);
      }
    }
  }

  /// Bit i: query `query` + i sees the key.
  uint32_t seen_queries(int64_t query, int64_t key, bool is_key) const {
    if (!is_key) return 0;
    if (!args_.causal || key <= query) return ~uint32_t{0};
    return key - query < kStrip ? ~uint32_t{0} << (key - query) : 0;
  }

  void store_dq(int64_t head, int64_t first) const {
    const float* dq_PI = m_.dq_PI + first * padded_;
    const int64_t queries = std::min(kQueries, shape_.context - first), size = shape_.head_size;
    for (int64_t i = 0; i < queries; i += kLanes) {
      for (int64_t p = 0; p < size; p += kLanes) {
        float block[kLanes * kLanes];
        for (int64_t k = 0; k < kLanes; ++k) {
          store(block + k * kLanes, load(dq_PI + (p + k) * kQueries + i) * args_.scale);
        }
        store_transposed(dqkv_ + (first + i) * shape_.qkv_stride + head * size + p, shape_.qkv_stride, block,
                         std::min<int64_t>(kLanes, queries - i), std::min<int64_t>(kLanes, size - p));
      }
    }
  }

  /// dqkv of all positions, columns from `column`, = rows * factor.
  void store_rows(const float* rows, int64_t column, float factor) const {
    for (int64_t t = 0; t < shape_.context; ++t) {
      T* out = dqkv_ + t * shape_.qkv_stride + column;
      vector_steps(0, shape_.head_size,
                   [&](int64_t k, auto lanes) { store(out + k, load(rows + t * padded_ + k) * factor, lanes); });
    }
  }

  const AttentionArgs& args_;
  const AttentionShape& shape_;
  int64_t sequence_, kv_head_, padded_;
  const BackwardTiles<T>& m_;
  const T* qkv_;
  T* dqkv_;
  const T* out_;
  const T* dout_;
  const float* lse_;
  float keep_factor_;
};

template <class T>
void run_backward(const AttentionBackwardArgs& args) {
  const AttentionShape shape(args.forward);
  const int64_t items = shape.sequences * shape.kv_heads;
  const ThreadScratch scratch(args.scratch, attention_amx_floats(args), items, args.forward.qkv.numel());
#pragma omp parallel num_threads(scratch.team())
  {
    const AmxTiles amx;
    const BackwardTiles<T> tiles(scratch.part(omp_get_thread_num()), shape);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < items; ++item) {
      HeadBackward<T>(args, shape, item / shape.kv_heads, item % shape.kv_heads, tiles).run();
    }
  }
}

}  // namespace

size_t attention_amx_floats(const AttentionBackwardArgs& args) {
  const AttentionShape shape(args.forward);
  const bool is_f32 = args.forward.qkv.dtype == DType::f32;
  return is_f32 ? BackwardTiles<float>::floats(shape) : BackwardTiles<bf16>::floats(shape);
}

void attention_amx(const AttentionBackwardArgs& args) {
  args.forward.qkv.dtype == DType::f32 ? run_backward<float>(args) : run_backward<bf16>(args);
}

#else

size_t attention_amx_floats(const AttentionBackwardArgs&) { return 0; }
void attention_amx(const AttentionBackwardArgs&) { ensure(false, "this build has no AMX"); }

#endif

}  // namespace trident::cpu
