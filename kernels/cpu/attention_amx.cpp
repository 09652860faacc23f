// Causal attention in bf16 and f32 on AMX tiles, forward: the algorithm of attention.cpp (Dao et al., arXiv 2205.14135)
// with both products on the matrix unit. Policy: probabilities are rounded to bf16 where they enter a product, as the
// inputs are, or f32 is split into parts; scores, sums and the softmax stay f32. A probability is taken relative to its
// query's reference, a whole power of two that follows the running maximum at a distance: it moves seldom, and moving
// it rounds nothing. Keys and values of one kv head are packed once and serve all of its queries that a thread comes
// to.
//
// Legend: I queries of a block (kQueries), J keys of a block (kKeys), C context, K head size, P = K rounded up to
// kAmxStep. _w: words of two bf16, in pairs along the dimension that is summed (amx.h). Where T is f32, a block of any
// operand is followed by its other parts.
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_amx.h"
#include "kernels/cpu/attention_amx_tile.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
namespace {

// The scores of a block (12 KiB) and what they are made of stay in L1.
constexpr int64_t kQueries = 32, kKeys = 96;
static_assert(kQueries % kAmxStep == 0 && kKeys % kAmxStep == 0);

int64_t query_blocks(const AttentionShape& shape) { return ceil_div(shape.context, kQueries); }
int64_t key_blocks(const AttentionShape& shape) { return ceil_div(shape.context, kKeys); }

/// One thread's memory of forward.
template <class T>
struct ForwardTiles {
  bf16 *row_JP, *k_CP, *v_CP;  ///< v of key block b: [P][J] at b * kParts * J * P
  uint32_t *q_w, *prob_w;      ///< [P / 2][I] and [J / 2][I]
  float *score_JI, *out_PI, *reference_I, *sum_I;
  uint16_t* keep_IJ;  ///< of 16 queries each: [I / 16][J]

  static size_t floats(const AttentionShape& shape) {
    const int64_t padded = padded_size(shape), block = kKeys * padded / 2;
    const int64_t operands = block * (1 + 2 * key_blocks(shape)) + kQueries * padded / 2 + kKeys * kQueries / 2;
    return static_cast<size_t>(kParts<T> * operands + kKeys * kQueries + kQueries * padded + 2 * kQueries +
                               kQueries / 16 * kKeys / 2);
  }
  ForwardTiles(float* memory, const AttentionShape& shape) {
    const int64_t padded = padded_size(shape), packed = kParts<T> * key_blocks(shape) * kKeys * padded;
    Cutter cut(memory);
    row_JP = cut.halves(kParts<T> * kKeys * padded), k_CP = cut.halves(packed), v_CP = cut.halves(packed);
    q_w = cut.words(kParts<T> * kQueries * padded / 2), prob_w = cut.words(kParts<T> * kKeys * kQueries / 2);
    score_JI = cut.floats(kKeys * kQueries), out_PI = cut.floats(kQueries * padded);
    reference_I = cut.floats(kQueries), sum_I = cut.floats(kQueries);
    keep_IJ = reinterpret_cast<uint16_t*>(cut.halves(kQueries / 16 * kKeys));
  }
};

/// A block of queries of one head.
struct Item {
  int64_t kv, sequence, head, first;  ///< kv: number of the kv head among those of all sequences

  /// Those of one kv head follow each other. Later blocks cost more: two neighbours cost about the same together.
  Item(const AttentionShape& shape, int64_t number) {
    const int64_t blocks = query_blocks(shape), head_number = number / blocks, n = number % blocks;
    kv = head_number / shape.group();
    sequence = head_number / shape.heads;
    head = head_number % shape.heads;
    first = (n % 2 == 0 ? n / 2 : blocks - 1 - n / 2) * kQueries;
  }
};

/// One thread's walk over blocks of queries.
template <class T>
class Forward {
 public:
  Forward(const AttentionArgs& args, const AttentionShape& shape, float* memory)
      : args_(args), shape_(shape), m_(memory, shape), padded_(padded_size(shape)) {}

  /// Keys and values of a kv head, in the orders that its queries' products take.
  void pack(int64_t sequence, int64_t kv_head) const {
    const int64_t stride = shape_.qkv_stride, size = shape_.head_size, block = kKeys * padded_;
    const T* k = key(sequence, kv_head);
    const T* v = k + shape_.kv_heads * size;
    for (int64_t key = 0; key < shape_.context; key += kKeys) {
      const int64_t count = std::min(kKeys, shape_.context - key), at = kParts<T> * key * padded_;
      copy_rows(m_.k_CP + at, block, k + key * stride, stride, count, kKeys, size, padded_);
      copy_rows(m_.row_JP, block, v + key * stride, stride, count, kKeys, size, padded_);
      for (int64_t n = 0; n < kParts<T>; ++n) {
        transpose_halves(m_.v_CP + at + n * block, kKeys, m_.row_JP + n * block, kKeys, padded_);
      }
    }
  }

  /// Its keys are packed.
  void run(const Item& item) const {
    const int64_t sequence = item.sequence, head = item.head, first = item.first;
    const int64_t queries = std::min(kQueries, shape_.context - first);
    const int64_t block = kKeys * padded_, q_part = kQueries * padded_ / 2;
    copy_rows(m_.row_JP, block, query(item), shape_.qkv_stride, queries, kQueries, shape_.head_size, padded_);
    for (int64_t n = 0; n < kParts<T>; ++n) {
      transpose_rows(m_.q_w + n * q_part, kQueries, m_.row_JP + n * block, kQueries, padded_);
    }
    std::fill(m_.reference_I, m_.reference_I + kQueries, -std::numeric_limits<float>::infinity());
    std::fill(m_.sum_I, m_.sum_I + kQueries, 0.0f);

    const int64_t all_keys = args_.causal ? std::min(shape_.context, first + kQueries) : shape_.context;
    for (int64_t key = 0; key < all_keys; key += kKeys) {
      const int64_t keys = std::min(kKeys, all_keys - key), rows = round_to_amx(keys);
      const int64_t at = kParts<T> * key * padded_;
      amx_product<kParts<T>>(rows, kQueries, padded_, m_.k_CP + at, padded_, block, m_.q_w, kQueries, q_part,
                             m_.score_JI, kQueries, false);
      if (args_.causal) hide_later_keys(first - key, rows);
      hide_rows(keys, rows);
      for (int64_t i = 0; i < kQueries; i += kLanes) {
        uint16_t* keep = args_.dropout > 0 ? m_.keep_IJ + i / kLanes * kKeys : nullptr;
        if (keep != nullptr) attention_keep(args_, sequence, head, first + i, key, rows, keep);
        softmax(i, rows, key == 0, keep);
      }
      amx_product<kParts<T>>(padded_, kQueries, rows, m_.v_CP + at, kKeys, block, m_.prob_w, kQueries, kProbPart,
                             m_.out_PI, kQueries, key > 0);
    }
    store_out(out(item), queries);
    float* lse = args_.lse.as<float>() + (sequence * shape_.heads + head) * shape_.context + first;
    for (int64_t i = 0; i < queries; ++i) lse[i] = m_.reference_I[i] * kLn2 + std::log(m_.sum_I[i]);
  }

 private:
  static constexpr int64_t kProbPart = kKeys * kQueries / 2;  // words

  const T* query(const Item& item) const {
    return args_.qkv.as<T>() + (item.sequence * shape_.context + item.first) * shape_.qkv_stride +
           item.head * shape_.head_size;
  }
  const T* key(int64_t sequence, int64_t kv_head) const {
    return args_.qkv.as<T>() + sequence * shape_.context * shape_.qkv_stride +
           (shape_.heads + kv_head) * shape_.head_size;
  }
  T* out(const Item& item) const {
    return args_.out.as<T>() + (item.sequence * shape_.context + item.first) * shape_.out_stride +
           item.head * shape_.head_size;
  }

  /// Scores of keys behind their query become minus infinity. Query 0 of the block lies `ahead` positions after key 0.
  void hide_later_keys(int64_t ahead, int64_t rows) const {
    const VecF minus_inf = broadcast(-std::numeric_limits<float>::infinity());
    for (int64_t j = std::max<int64_t>(0, ahead + 1); j < rows; ++j) {
      for (int64_t i = 0; i < kQueries; i += kLanes) {
        float* score = m_.score_JI + j * kQueries + i;
        store(score, select(lane_numbers() + static_cast<int32_t>(ahead + i - j) < 0, minus_inf, load(score)));
      }
    }
  }
  void hide_rows(int64_t begin, int64_t end) const {
    std::fill(m_.score_JI + begin * kQueries, m_.score_JI + end * kQueries, -std::numeric_limits<float>::infinity());
  }

  /// Scores of queries [i, i + kLanes) against the block's keys become probabilities relative to the reference, dropped
  /// out; the reference, the sums and what is summed so far in out_PI move on.
  void softmax(int64_t i, int64_t keys, bool first_block, const uint16_t* keep) const {
    const float* score = m_.score_JI + i;
    const float factor = args_.scale * kLog2E;
    const VecF reference = move_reference(i, keys, first_block);
    VecF sum_even = {}, sum_odd = {};
    for (int64_t j = 0; j < keys; j += 2) {
      const VecF even = exp2(load(score + j * kQueries) * factor - reference);
      const VecF odd = exp2(load(score + (j + 1) * kQueries) * factor - reference);
      sum_even += even;
      sum_odd += odd;
      uint32_t kept = ~uint32_t{0};
      if (keep != nullptr) std::memcpy(&kept, keep + j, sizeof kept);
      VecU pairs[kParts<T>];
      split_pairs(pairs, even, odd, kept);
      for (int64_t n = 0; n < kParts<T>; ++n) {
        std::memcpy(m_.prob_w + n * kProbPart + j / 2 * kQueries + i, &pairs[n], sizeof pairs[n]);
      }
    }
    store(m_.sum_I + i, load(m_.sum_I + i) + (sum_even + sum_odd));
  }

  /// The reference that the block's scores, times log2(e), are to be taken relative to.
  VecF move_reference(int64_t i, int64_t keys, bool first_block) const {
    constexpr float kSlack = 16;  // probabilities may grow to 2^kSlack before the reference follows
    const float* score = m_.score_JI + i;
    VecF largest[4];
    for (int64_t v = 0; v < 4; ++v) largest[v] = load(score + v * kQueries);
    for (int64_t j = 4; j < keys; j += 4) {
      for (int64_t v = 0; v < 4; ++v) largest[v] = max(largest[v], load(score + (j + v) * kQueries));
    }
    const VecF top = max(max(largest[0], largest[1]), max(largest[2], largest[3])) * (args_.scale * kLog2E);
    const VecF old = load(m_.reference_I + i);
    if (_mm512_cmp_ps_mask((__m512)top, (__m512)(old + kSlack), _CMP_GT_OQ) == 0) return old;
    const VecF moved = max((VecF)_mm512_maskz_roundscale_ps(0xffff, (__m512)top, _MM_FROUND_TO_POS_INF), old);
    store(m_.reference_I + i, moved);
    if (first_block) return moved;
    const VecF rescale = exp2(old - moved);
    store(m_.sum_I + i, load(m_.sum_I + i) * rescale);
    for (int64_t p = 0; p < padded_; ++p) {
      float* out = m_.out_PI + p * kQueries + i;
      store(out, load(out) * rescale);
    }
    return moved;
  }

  void store_out(T* out, int64_t queries) const {
    const int64_t size = shape_.head_size;
    for (int64_t i = 0; i < queries; i += kLanes) {
      const VecF inverse = 1.0f / (load(m_.sum_I + i) * (1.0f - args_.dropout));
      for (int64_t p = 0; p < size; p += kLanes) {
        float block[kLanes * kLanes];
        for (int64_t k = 0; k < kLanes; ++k) {
          store(block + k * kLanes, load(m_.out_PI + (p + k) * kQueries + i) * inverse);
        }
        store_transposed(out + i * shape_.out_stride + p, shape_.out_stride, block,
                         std::min<int64_t>(kLanes, queries - i), std::min<int64_t>(kLanes, size - p));
      }
    }
  }

  const AttentionArgs& args_;
  const AttentionShape& shape_;
  const ForwardTiles<T> m_;
  const int64_t padded_;
};

template <class T>
void run_forward(const AttentionArgs& args) {
  const AttentionShape shape(args);
  const int64_t items = shape.sequences * shape.heads * query_blocks(shape);
  const ThreadScratch scratch(args.scratch, attention_amx_floats(args), items, args.qkv.numel());
#pragma omp parallel num_threads(scratch.team())
  {
    const AmxTiles amx;
    const int64_t team = omp_get_num_threads(), me = omp_get_thread_num(), end = items * (me + 1) / team;
    const Forward<T> forward(args, shape, scratch.part(omp_get_thread_num()));
    int64_t packed = -1;
    for (int64_t number = items * me / team; number < end; ++number) {
      const Item item(shape, number);
      if (std::exchange(packed, item.kv) != packed) forward.pack(item.sequence, item.kv % shape.kv_heads);
      forward.run(item);
    }
  }
}

}  // namespace

bool attention_takes_amx(const AttentionArgs& args) {
  // Shorter contexts fill no tile; the largest score is the largest product.
  return (args.qkv.dtype == DType::bf16 || args.qkv.dtype == DType::f32) && args.context >= kAmxStep &&
         args.scale > 0 && amx_ready();
}

size_t attention_amx_floats(const AttentionArgs& args) {
  const AttentionShape shape(args);
  return args.qkv.dtype == DType::f32 ? ForwardTiles<float>::floats(shape) : ForwardTiles<bf16>::floats(shape);
}

void attention_amx(const AttentionArgs& args) {
  args.qkv.dtype == DType::f32 ? run_forward<float>(args) : run_forward<bf16>(args);
}

#else

bool attention_takes_amx(const AttentionArgs&) { return false; }
size_t attention_amx_floats(const AttentionArgs&) { return 0; }
void attention_amx(const AttentionArgs&) { ensure(false, "this build has no AMX"); }

#endif

}  // namespace trident::cpu
