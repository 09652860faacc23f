// Flash attention backward on tensor cores (Dao et al., arXiv 2205.14135, algorithm 4), without atomics: one kernel
// owns tiles of keys and sums dk and dv over the queries, one owns tiles of queries and sums dq over the keys; both
// compute the probabilities again from lse. Every sum has one order, so equal calls give equal bits; it costs 7
// products of tiles where a kernel that adds dq by atomics makes 5.
//
// With p the probabilities, f dropout's factor (0 where dropped), delta = sum dout * out (attention_statistics.cu):
//   dv_j += p f dout_i,  ds = p (f dout_i . v_j - delta_i),  dq_i += scale ds k_j,  dk_j += scale ds q_i
// p f and ds are rounded to the 16-bit dtype for the second products. Factors that are the same for a whole tile are
// applied at the end.
//
// Legend: K head size (kHead); "own" positions are resident (own tile: both of its operands), others stream past.
//
// Tiles: scores are kept own x stream, so that p and ds of a warp are the left operands of its second products without
// leaving the registers.
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/attention_mask.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.h"

namespace trident::cuda::attention {
namespace {

/// kM blocks of 16 own rows a warp, kStream positions a tile that streams past.
template <int kHead, int kM, int kStream_>
struct Shape {
  static constexpr int kWarps = 4, kThreads = kWarps * 32;
  static constexpr int kRowBlocks = kM;
  static constexpr int kOwn = kWarps * kM * 16;
  static constexpr int kStream = kStream_;
  static_assert(kPadding % kOwn == 0 && kPadding % kStream == 0);
  static constexpr int kOwnElements = kOwn * kHead, kStreamElements = kStream * kHead;
  static constexpr size_t kTileBytes = (2 * kOwnElements + 4 * kStreamElements) * sizeof(uint16_t);
};
/// dk and dv take 2 K accumulators a row: 16 keys a warp.
template <int kHead>
using KeyTiles = Shape<kHead, 1, kHead == 128 ? 32 : 64>;
template <int kHead>
struct KeyShape : KeyTiles<kHead> {
  static constexpr size_t kSharedBytes =
      KeyTiles<kHead>::kTileBytes + 4 * KeyTiles<kHead>::kStream * sizeof(float);  // and statistics, twice
  static_assert(2 * kSharedBytes <= kLargestSharedBytes, "two blocks an SM");
};
/// dq takes K accumulators a row: 32 queries a warp for K = 64, so that a fragment read from shared memory feeds four
/// products; else 16, or scores and accumulators leave the registers.
template <int kHead>
using QueryTiles = Shape<kHead, kHead == 64 ? 2 : 1, kHead == 96 ? 64 : 32>;
template <int kHead>
struct QueryShape : QueryTiles<kHead> {
  static constexpr size_t kSharedBytes = QueryTiles<kHead>::kTileBytes;
  static_assert(2 * kSharedBytes <= kLargestSharedBytes, "two blocks an SM");
};

/// A query head of a sequence, and the kv head that it reads.
template <class T>
struct Head {
  const T *q, *k, *v, *dout;
  SIMT_DEV Head(const T* qkv, const T* dout_, const Geometry& g, int64_t sequence, int head, int head_size)
      : q(qkv + sequence * g.context * g.qkv_stride + head * head_size),
        k(q + (g.heads - head + head / (g.heads / g.kv_heads)) * head_size),
        v(k + g.kv_heads * head_size),
        dout(dout_ + sequence * g.context * g.out_stride + head * head_size) {}
};

/// Scores become probabilities after dropout (without its factor), dp (without dropout) becomes ds. Rows are queries
/// from `query` on and columns keys from `key` on, or the other way round; lse2(m, n, i) and delta(m, n, i) are those
/// of an element's query.
template <bool kRowsAreKeys, bool kDrops, int kM, int kN, class Lse2, class Delta>
SIMT_DEV void score_gradients(float (&p)[kM][kN][4], float (&ds)[kM][kN][4], const Geometry& g, uint64_t first_block,
                              int query, int key, Lse2 lse2, Delta delta) {
  const int keys = kRowsAreKeys ? kM * 16 : kN * 8;
  if (!sees_all(g, query, key + keys - 1)) hide_unseen<kRowsAreKeys>(p, g, query, key);
  const float scale_log2 = g.scale * kLog2E;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    KeptScores<kN> kept;
    if constexpr (kDrops && kRowsAreKeys)
      kept = KeptScores<kN>::of_key_rows(g.dropout, first_block, query, key + m * 16);
    if constexpr (kDrops && !kRowsAreKeys) {
      kept = KeptScores<kN>::of_query_rows(g.dropout, first_block, query + m * 16, key);
    }
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = simt::exp2_approx(fmaf(p[m][n][i], scale_log2, -lse2(m, n, i)));
        const bool keeps = !kDrops || kept.keeps(n, i);
        const float dp = kDrops ? (keeps ? ds[m][n][i] * g.dropout.factor : 0.0f) : ds[m][n][i];
        p[m][n][i] = keeps ? x : 0.0f;
        ds[m][n][i] = x * (dp - delta(m, n, i));
      }
  }
}

/// Block: one tile of keys of one kv head; streams the query tiles of each query head of its group in turn.
template <class T, int kHead, bool kDrops>
__global__ void __launch_bounds__(KeyShape<kHead>::kThreads, 2)
    key_kernel(T* dqkv, const T* qkv, const T* dout, const float* statistics, Geometry g) {
  using S = KeyShape<kHead>;
  constexpr int kM = S::kRowBlocks, kN = S::kStream / 8, kColumns = kHead / 8;
  SIMT_DYN_SMEM(T, shared);
  T* k = shared;
  T* v = k + S::kOwnElements;
  T* q = v + S::kOwnElements;
  T* d = q + 2 * S::kStreamElements;
  float* rows = reinterpret_cast<float*>(d + 2 * S::kStreamElements);  // statistics [buffer][lse2 | delta][kStream]

  const Place at((g.context + S::kOwn - 1) / S::kOwn, g.kv_heads);
  const int first_key = at.tile * S::kOwn, group = g.heads / g.kv_heads, first_head = at.head * group;
  const Head<T> head0(qkv, dout, g, at.sequence, first_head, kHead);
  const float* statistics0 = statistics + (at.sequence * g.heads + first_head) * 2 * g.padded;

  const int first_tile = g.causal ? first_key / S::kStream : 0;
  const int query_tiles = (g.context + S::kStream - 1) / S::kStream - first_tile;
  const int warp_row = static_cast<int>(threadIdx.x / 32) * kM * 16, key = first_key + warp_row;

  float dk[kM][kColumns][4] = {}, dv[kM][kColumns][4] = {};
  load_tile<kHead, S::kOwn, S::kThreads>(k, head0.k, g.qkv_stride, first_key, g.context);
  load_tile<kHead, S::kOwn, S::kThreads>(v, head0.v, g.qkv_stride, first_key, g.context);
  const auto load = [&](int i, int buffer) {
    const int member = i / query_tiles, query = (first_tile + i % query_tiles) * S::kStream;
    const int to = buffer * S::kStreamElements;
    load_tile<kHead, S::kStream, S::kThreads>(q + to, head0.q + member * kHead, g.qkv_stride, query, g.context);
    load_tile<kHead, S::kStream, S::kThreads>(d + to, head0.dout + member * kHead, g.out_stride, query, g.context);
    if (threadIdx.x < S::kStream / 2) {  // 16 bytes a thread: kStream / 4 of them lse, then delta
      const int which = static_cast<int>(threadIdx.x) / (S::kStream / 4), chunk = threadIdx.x % (S::kStream / 4);
      const float* from = statistics0 + (member * int64_t{2} + which) * g.padded + query + chunk * 4;
      simt::cp_async16(rows + buffer * 2 * S::kStream + threadIdx.x * 4, from, true);
    }
  };
  const auto compute = [&](int i, int buffer) {
    const int member = i / query_tiles, query = (first_tile + i % query_tiles) * S::kStream;
    if (key >= g.context || (g.causal && query + S::kStream <= key)) return;  // for the whole warp: nothing to see
    const T *q_tile = q + buffer * S::kStreamElements, *d_tile = d + buffer * S::kStreamElements;
    const float *lse2 = rows + buffer * 2 * S::kStream, *delta = lse2 + S::kStream;
    float p[kM][kN][4], ds[kM][kN][4];
    row_products<kHead>(p, k, warp_row, q_tile);
    row_products<kHead>(ds, v, warp_row, d_tile);
    score_gradients<true, kDrops>(
        p, ds, g, kDrops ? first_dropout_block(g, at.sequence, first_head + member) : 0, query, key,
        [&](int, int n, int j) { return lse2[fragment_column(n, j)]; },
        [&](int, int n, int j) { return delta[fragment_column(n, j)]; });
    add_weighted_rows<T>(dv, p, d_tile);
    add_weighted_rows<T>(dk, ds, q_tile);
  };
  stream_items(group * query_tiles, load, compute);

  T* dk_head = dqkv + (head0.k - qkv);
  float scales[kM][2], factors[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    scales[m][0] = scales[m][1] = g.scale;
    factors[m][0] = factors[m][1] = g.dropout.factor;
  }
  store_rows(dk_head, g.qkv_stride, first_key, g.context, dk, scales, k, warp_row);
  store_rows(dk_head + g.kv_heads * kHead, g.qkv_stride, first_key, g.context, dv, factors, v, warp_row);
}

/// Block: one tile of queries of one head; streams the key tiles it sees.
template <class T, int kHead, bool kDrops>
__global__ void __launch_bounds__(QueryShape<kHead>::kThreads, 2)
    query_kernel(T* dqkv, const T* qkv, const T* dout, const float* statistics, Geometry g) {
  using S = QueryShape<kHead>;
  constexpr int kM = S::kRowBlocks, kN = S::kStream / 8, kColumns = kHead / 8;
  SIMT_DYN_SMEM(T, shared);
  T* q = shared;
  T* d = q + S::kOwnElements;
  T* k = d + S::kOwnElements;
  T* v = k + 2 * S::kStreamElements;

  const int tiles = (g.context + S::kOwn - 1) / S::kOwn;
  const Place at(tiles, g.heads);
  const int first_query = (tiles - 1 - at.tile) * S::kOwn;  // those with most keys start first
  const Head<T> head(qkv, dout, g, at.sequence, at.head, kHead);

  const int warp_row = static_cast<int>(threadIdx.x / 32) * kM * 16, query = first_query + warp_row;
  const int keys_seen = g.causal ? min(first_query + S::kOwn, g.context) : g.context;
  float lse2[kM][2], delta[kM][2];
  const float* own = statistics + at.head_of_all * 2 * g.padded + query;
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      lse2[m][half] = own[fragment_row(m, half * 2)];
      delta[m][half] = own[fragment_row(m, half * 2) + g.padded];
    }

  float dq[kM][kColumns][4] = {};
  load_tile<kHead, S::kOwn, S::kThreads>(q, head.q, g.qkv_stride, first_query, g.context);
  load_tile<kHead, S::kOwn, S::kThreads>(d, head.dout, g.out_stride, first_query, g.context);
  const auto load = [&](int i, int buffer) {
    const int to = buffer * S::kStreamElements, key = i * S::kStream;
    load_tile<kHead, S::kStream, S::kThreads>(k + to, head.k, g.qkv_stride, key, g.context);
    load_tile<kHead, S::kStream, S::kThreads>(v + to, head.v, g.qkv_stride, key, g.context);
  };
  const auto compute = [&](int i, int buffer) {
    const int key = i * S::kStream;
    if (query >= g.context || (g.causal && key > query + kM * 16 - 1)) return;  // for the whole warp: nothing to see
    const T* k_tile = k + buffer * S::kStreamElements;
    float p[kM][kN][4], ds[kM][kN][4];
    row_products<kHead>(p, q, warp_row, k_tile);
    row_products<kHead>(ds, d, warp_row, v + buffer * S::kStreamElements);
    score_gradients<false, kDrops>(
        p, ds, g, kDrops ? first_dropout_block(g, at.sequence, at.head) : 0, query, key,
        [&](int m, int, int j) { return lse2[m][j / 2]; }, [&](int m, int, int j) { return delta[m][j / 2]; });
    add_weighted_rows<T>(dq, ds, k_tile);
  };
  stream_items((keys_seen + S::kStream - 1) / S::kStream, load, compute);

  float scales[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) scales[m][0] = scales[m][1] = g.scale;
  store_rows(dqkv + (head.q - qkv), g.qkv_stride, first_query, g.context, dq, scales, q, warp_row);
}

template <class T, int kHead>
void launch_backward(cudaStream_t stream, const AttentionBackwardArgs& args, const Geometry& g,
                     const float* statistics) {
  const auto run = [&](auto kernel, auto shape, int64_t heads) {
    using S = decltype(shape);
    const dim3 grid(static_cast<unsigned>(g.sequences * heads * ceil_div(g.context, S::kOwn)));
    check_launch(simt::launch(kernel, grid, dim3(S::kThreads), S::kSharedBytes, stream, at<T>(args.dqkv),
                              at<const T>(args.forward.qkv), at<const T>(args.dout), statistics, g),
                 "attention_backward");
  };
  run(g.drops() ? key_kernel<T, kHead, true> : key_kernel<T, kHead, false>, KeyShape<kHead>{}, g.kv_heads);
  run(g.drops() ? query_kernel<T, kHead, true> : query_kernel<T, kHead, false>, QueryShape<kHead>{}, g.heads);
}

template <class T>
void backward(cudaStream_t stream, const AttentionBackwardArgs& args, const Geometry& g, const float* statistics) {
  switch (g.head_size) {
    case 64: return launch_backward<T, 64>(stream, args, g, statistics);
    case 96: return launch_backward<T, 96>(stream, args, g, statistics);
    case 128: return launch_backward<T, 128>(stream, args, g, statistics);
    default: ensure(false, "attention.cpp sends head sizes 64, 96 and 128 here");
  }
}

}  // namespace

void backward_on_tensor_cores(cudaStream_t stream, const AttentionBackwardArgs& args, const Geometry& geometry,
                              const float* statistics) {
  if (args.dqkv.dtype == DType::bf16) {
    backward<__nv_bfloat16>(stream, args, geometry, statistics);
  } else {
    backward<__half>(stream, args, geometry, statistics);
  }
}

}  // namespace trident::cuda::attention
