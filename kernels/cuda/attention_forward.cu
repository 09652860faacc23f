// Flash attention forward on tensor cores (Dao, "FlashAttention-2", arXiv 2307.08691): a block owns a tile of queries
// of one head, key and value tiles stream past, the softmax runs along in f32.
//
// Legend: C context, K head size (kHead). Tiles: kQueries x K resident, kKeys x K of keys and of values, two of each.
//
// Tiles: each warp has 32 queries, so that a fragment of keys or values read from shared memory feeds four products;
// the tensor cores of sm_80 take as long for two as shared memory takes to deliver it. Registers allow 2 blocks of 128
// threads an SM; shared memory is sized for at least as many (K = 64: 48 KB, 96: 72 KB, 128: 64 KB with 32 keys a tile:
// its accumulators leave no room for the scores of 64). Late query tiles see most keys when causal and start first.
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/attention_mask.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/launch.h"

namespace trident::cuda::attention {
namespace {

template <int kHead>
struct Shape {
  static constexpr int kWarps = 4, kThreads = kWarps * 32;
  static constexpr int kRowBlocks = 2;  ///< of 16 queries, a warp
  static constexpr int kQueries = kWarps * kRowBlocks * 16;
  static constexpr int kKeys = kHead == 64 ? 64 : 32;
  static constexpr int kTileElements = kKeys * kHead;
  static constexpr size_t kSharedBytes = (kQueries + 4 * kKeys) * kHead * sizeof(uint16_t);
  static_assert(2 * kSharedBytes <= kLargestSharedBytes, "two blocks an SM");
};

/// The running softmax of a warp's query rows: maxima of unscaled scores, and sums of exp(scale (score - maximum)),
/// whose columns are spread over 4 threads until `finish`.
template <int kM>
struct RunningSoftmax {
  float max[kM][2], sum[kM][2];

  SIMT_DEV RunningSoftmax() {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) max[m][half] = -INFINITY, sum[m][half] = 0;
  }

  /// Takes in a tile of scores, which become exp(scale (score - maximum)), and brings acc to the new maximum. In the
  /// first tile each row sees a key: no maximum stays infinite.
  template <int kN, int kColumns>
  SIMT_DEV void take(float (&s)[kM][kN][4], float (&acc)[kM][kColumns][4], float scale_log2) {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = max[m][half];
#pragma unroll
        for (int n = 0; n < kN; ++n) largest = fmaxf(largest, fmaxf(s[m][n][half * 2], s[m][n][half * 2 + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, 2));
        const float shift = largest * scale_log2;
        const float shrink = simt::exp2_approx(fmaf(max[m][half], scale_log2, -shift));
        max[m][half] = largest;
        sum[m][half] *= shrink;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) acc[m][n][half * 2] *= shrink, acc[m][n][half * 2 + 1] *= shrink;
#pragma unroll
        for (int n = 0; n < kN; ++n)
#pragma unroll
          for (int i = half * 2; i < half * 2 + 2; ++i) {
            s[m][n][i] = simt::exp2_approx(fmaf(s[m][n][i], scale_log2, -shift));
            sum[m][half] += s[m][n][i];
          }
      }
  }

  /// Completes the sums.
  SIMT_DEV void finish() {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum[m][half] += __shfl_xor_sync(kWarp, sum[m][half], 1);
        sum[m][half] += __shfl_xor_sync(kWarp, sum[m][half], 2);
      }
  }

  /// lse of the rows from `query` on, after `finish`.
  SIMT_DEV void store_lse(float* lse, int query, const Geometry& g) const {
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = query + fragment_row(m, half * 2);
        if (threadIdx.x % 4 == 0 && row < g.context) lse[row] = max[m][half] * g.scale + logf(sum[m][half]);
      }
  }
};

/// Dropped probabilities become 0.
template <int kM, int kN>
SIMT_DEV void drop(float (&s)[kM][kN][4], const Geometry& g, uint64_t first_block, int query, int key) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    const auto kept = KeptScores<kN>::of_query_rows(g.dropout, first_block, query + m * 16, key);
#pragma unroll
    for (int n = 0; n < kN; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!kept.keeps(n, i)) s[m][n][i] = 0;
      }
  }
}

/// Block: one tile of queries of one head of one sequence.
template <class T, int kHead, bool kDrops>
__global__ void __launch_bounds__(Shape<kHead>::kThreads, 2)
    forward_kernel(T* out, float* lse, const T* qkv, Geometry g) {
  using S = Shape<kHead>;
  constexpr int kM = S::kRowBlocks, kN = S::kKeys / 8, kColumns = kHead / 8;
  SIMT_DYN_SMEM(T, shared);
  T* q = shared;
  T* k = q + S::kQueries * kHead;
  T* v = k + 2 * S::kTileElements;

  const int tiles = (g.context + S::kQueries - 1) / S::kQueries;
  const Place at(tiles, g.heads);
  const int first_query = (tiles - 1 - at.tile) * S::kQueries;  // those with most keys start first
  const T* q_head = qkv + at.sequence * g.context * g.qkv_stride + at.head * kHead;
  const T* k_head = q_head + (g.heads - at.head + at.head / (g.heads / g.kv_heads)) * kHead;
  const T* v_head = k_head + g.kv_heads * kHead;
  [[maybe_unused]] const uint64_t first_block = kDrops ? first_dropout_block(g, at.sequence, at.head) : 0;

  const int warp_row = static_cast<int>(threadIdx.x / 32) * kM * 16;
  const int query = first_query + warp_row, last_query = query + kM * 16 - 1;
  const int keys_seen = g.causal ? min(first_query + S::kQueries, g.context) : g.context;

  float acc[kM][kColumns][4] = {};
  RunningSoftmax<kM> softmax;
  load_tile<kHead, S::kQueries, S::kThreads>(q, q_head, g.qkv_stride, first_query, g.context);
  const auto load = [&](int i, int buffer) {
    const int key = i * S::kKeys, to = buffer * S::kTileElements;
    load_tile<kHead, S::kKeys, S::kThreads>(k + to, k_head, g.qkv_stride, key, g.context);
    load_tile<kHead, S::kKeys, S::kThreads>(v + to, v_head, g.qkv_stride, key, g.context);
  };
  const float scale_log2 = g.scale * kLog2E;
  const auto compute = [&](int i, int buffer) {
    const int key = i * S::kKeys, from = buffer * S::kTileElements;
    if (query >= g.context || (g.causal && key > last_query)) return;  // for the whole warp: nothing to see
    float s[kM][kN][4];
    row_products<kHead>(s, q, warp_row, k + from);
    if (!sees_all(g, query, key + S::kKeys - 1)) hide_unseen<false>(s, g, query, key);
    softmax.take(s, acc, scale_log2);
    if constexpr (kDrops) drop(s, g, first_block, query, key);
    add_weighted_rows<T>(acc, s, v + from);
  };
  stream_items((keys_seen + S::kKeys - 1) / S::kKeys, load, compute);

  softmax.finish();
  softmax.store_lse(lse + at.head_of_all * g.context, query, g);
  float factor[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) factor[m][half] = (kDrops ? g.dropout.factor : 1.0f) / softmax.sum[m][half];
  T* out_head = out + at.sequence * g.context * g.out_stride + at.head * kHead;
  store_rows(out_head, g.out_stride, first_query, g.context, acc, factor, q, warp_row);
}

template <class T, int kHead>
void launch_forward(cudaStream_t stream, const AttentionArgs& args, const Geometry& g) {
  using S = Shape<kHead>;
  const auto kernel = g.drops() ? forward_kernel<T, kHead, true> : forward_kernel<T, kHead, false>;
  const dim3 grid(static_cast<unsigned>(g.sequences * g.heads * ceil_div(g.context, S::kQueries)));
  check_launch(simt::launch(kernel, grid, dim3(S::kThreads), S::kSharedBytes, stream, at<T>(args.out),
                            at<float>(args.lse), at<const T>(args.qkv), g),
               "attention_forward");
}

template <class T>
void forward(cudaStream_t stream, const AttentionArgs& args, const Geometry& g) {
  switch (g.head_size) {
    case 64: return launch_forward<T, 64>(stream, args, g);
    case 96: return launch_forward<T, 96>(stream, args, g);
    case 128: return launch_forward<T, 128>(stream, args, g);
    default: ensure(false, "attention.cpp sends head sizes 64, 96 and 128 here");
  }
}

}  // namespace

void forward_on_tensor_cores(cudaStream_t stream, const AttentionArgs& args, const Geometry& geometry) {
  if (args.qkv.dtype == DType::bf16) {
    forward<__nv_bfloat16>(stream, args, geometry);
  } else {
    forward<__half>(stream, args, geometry);
  }
}

}  // namespace trident::cuda::attention
