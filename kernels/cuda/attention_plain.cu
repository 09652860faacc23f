// Attention by f32 FMA: f32 tensors, head sizes that tensor cores don't take, tensors that aren't 16-byte aligned.
// Flash style like the others: tiles in shared memory, a running softmax, no C x C matrix, backward without atomics.
//
// Legend: C context, K head size, kHead: K rounded up to 64, 128 or 256 (columns from K on are zeros). "own" positions
// are resident (queries in forward and for dq, keys for dk and dv), the others stream past.
//
// Tiles: 32 x 32 scores by 128 threads as 16 x 8: thread (x, y) has rows y + 8 i (i < 4) and columns x + 16 j (j < 2)
// of scores, and columns x + 16 d of results. A row belongs to the 16 threads of half a warp: its maximum, its sum and
// its weights need no barrier. Rows in shared memory are 4 floats longer than kHead: the same 4 columns of 8 rows lie
// in different banks.
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/attention_mask.cuh"
#include "kernels/cuda/element.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda::attention {
namespace {

constexpr int kThreads = 128, kTile = 32, kRows = 4, kCols = 2;
constexpr int kWeightStride = 48;  ///< the two rows that a warp writes lie in different banks
constexpr int kWeightFloats = kTile * kWeightStride;
constexpr size_t kSharedLimit = 163 * 1024;  ///< of a block on sm_80

/// Blocks an SM that shared memory has room for, at most; the compiler gets the registers that these leave.
template <int kHead>
constexpr int kBlocks = kHead == 256 ? 1 : 2;
template <int kHead>
constexpr int kStride = kHead + 4;
template <int kHead>
constexpr int kTileFloats = kTile* kStride<kHead>;
template <int kHead>
constexpr size_t shared_bytes(int tiles, int weights) {
  return static_cast<size_t>(tiles * kTileFloats<kHead> + weights * kWeightFloats) * sizeof(float);
}
static_assert(kBlocks<128> * shared_bytes<128>(4, 2) <= kSharedLimit);
static_assert(kBlocks<256> * shared_bytes<256>(4, 2) <= kSharedLimit);

SIMT_DEV int thread_x() { return static_cast<int>(threadIdx.x) % 16; }
SIMT_DEV int own_row(int i) { return static_cast<int>(threadIdx.x) / 16 + 8 * i; }
SIMT_DEV int stream_column(int j) { return thread_x() + 16 * j; }

/// Columns of a tile that its products read: K rounded up to 16.
SIMT_DEV int columns_read(const Geometry& g) { return (g.head_size + 15) / 16 * 16; }

template <int kHead, int kPer, class T>
SIMT_DEV void load_packs(float* tile, const T* src, int64_t stride, int first, const Geometry& g) {
  for (int index = static_cast<int>(threadIdx.x); index < kTile * kHead / kPer; index += kThreads) {
    const int row = index / (kHead / kPer), k = index % (kHead / kPer) * kPer;
    Pack<T, kPer> pack{};
    if (first + row < g.context && k < g.head_size) pack = Pack<T, kPer>::load(src + (first + row) * stride + k);
    float* to = tile + row * kStride<kHead> + k;
#pragma unroll
    for (int i = 0; i < kPer; ++i) to[i] = pack.value[i];
  }
}

/// Copies rows [first, first + kTile) of one head; zeros from the context and from K on. `src` is row 0. `wide`: rows
/// are 16-byte aligned.
template <int kHead, class T>
SIMT_DEV void load_rows(float* tile, const T* src, int64_t stride, int first, const Geometry& g, bool wide) {
  if (wide) {
    load_packs<kHead, kPerVector<T>>(tile, src, stride, first, g);
  } else {
    load_packs<kHead, 1>(tile, src, stride, first, g);
  }
}

/// s = A B^T over the first `columns` columns, own rows against streamed rows.
template <int kHead>
SIMT_DEV void dot_rows(float (&s)[kRows][kCols], const float* a, const float* b, int columns) {
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kCols; ++j) s[i][j] = 0;
  for (int step = 0; step < columns; step += 16)
#pragma unroll(kHead == 256 ? 1 : 4)
    for (int k = step; k < step + 16; k += 4) {
      Pack<float, 4> row[kRows], column[kCols];
#pragma unroll
      for (int i = 0; i < kRows; ++i) row[i] = Pack<float, 4>::load(a + own_row(i) * kStride<kHead> + k);
#pragma unroll
      for (int j = 0; j < kCols; ++j) column[j] = Pack<float, 4>::load(b + stream_column(j) * kStride<kHead> + k);
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kCols; ++j)
#pragma unroll
          for (int l = 0; l < 4; ++l) s[i][j] = fmaf(row[i].value[l], column[j].value[l], s[i][j]);
    }
}

/// Puts scores where the rest of their row reads them.
SIMT_DEV void publish(float* weights, const float (&s)[kRows][kCols]) {
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kCols; ++j) weights[own_row(i) * kWeightStride + stream_column(j)] = s[i][j];
}

/// acc += W B, own rows of weights times the streamed rows.
template <int kHead>
SIMT_DEV void add_rows(float (&acc)[kRows][kHead / 16], const float* weights, const float* b) {
#pragma unroll 2
  for (int c = 0; c < kTile; ++c) {
    float w[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) w[i] = weights[own_row(i) * kWeightStride + c];
#pragma unroll
    for (int d = 0; d < kHead / 16; ++d) {
      const float x = b[c * kStride<kHead> + thread_x() + 16 * d];
#pragma unroll
      for (int i = 0; i < kRows; ++i) acc[i][d] = fmaf(w[i], x, acc[i][d]);
    }
  }
}

/// Writes factor[i] * acc to own rows of one head.
template <int kHead, class T>
SIMT_DEV void store_rows(T* dst, int64_t stride, int first, const Geometry& g, const float (&acc)[kRows][kHead / 16],
                         const float (&factor)[kRows]) {
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int row = first + own_row(i);
    if (row >= g.context) continue;
#pragma unroll
    for (int d = 0; d < kHead / 16; ++d) {
      const int k = thread_x() + 16 * d;
      if (k < g.head_size) dst[row * stride + k] = from_float<T>(acc[i][d] * factor[i]);
    }
  }
}

/// What dropout multiplies a probability by.
SIMT_DEV float dropout_factor(const Geometry& g, uint64_t first_block, int query, int key) {
  if (g.dropout.threshold == 0) return 1;
  const uint64_t row = first_block + static_cast<uint64_t>(query) * g.dropout.blocks;
  return keep_bits(g.dropout, row + static_cast<uint64_t>(key / 4)) >> (key % 4) & 1 ? g.dropout.factor : 0.0f;
}

/// The running softmax of a thread's rows; every thread of a row holds the same.
struct RunningSoftmax {
  float max[kRows], sum[kRows];

  /// Takes in a tile of scaled scores, which become exp(score - maximum), and brings acc to the new maximum.
  template <int kDims>
  SIMT_DEV void take(float (&s)[kRows][kCols], float (&acc)[kRows][kDims]) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float largest = fmaxf(max[i], fmaxf(s[i][0], s[i][1]));
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, distance));
      }
      const float shrink = expf(max[i] - largest);
      max[i] = largest;
      float add = 0;
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        s[i][j] = expf(s[i][j] - largest);
        add += s[i][j];
      }
#pragma unroll
      for (int distance = 8; distance > 0; distance /= 2) add += __shfl_xor_sync(kWarp, add, distance);
      sum[i] = sum[i] * shrink + add;
#pragma unroll
      for (int d = 0; d < kDims; ++d) acc[i][d] *= shrink;
    }
  }
};

template <class T, int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    forward_kernel(T* out, float* lse, const T* qkv, Geometry g, bool wide) {
  SIMT_DYN_SMEM(float, q);
  float *k = q + kTileFloats<kHead>, *v = k + kTileFloats<kHead>, *weights = v + kTileFloats<kHead>;
  const Place at((g.context + kTile - 1) / kTile, g.heads);
  const int first_query = at.tile * kTile;
  const T* rows = qkv + at.sequence * g.context * g.qkv_stride;
  const T* k_head = rows + (g.heads + at.head / (g.heads / g.kv_heads)) * g.head_size;
  const T* v_head = k_head + g.kv_heads * g.head_size;
  const uint64_t first_block = first_dropout_block(g, at.sequence, at.head);

  float acc[kRows][kHead / 16] = {};
  RunningSoftmax softmax{{-INFINITY, -INFINITY, -INFINITY, -INFINITY}, {}};
  load_rows<kHead>(q, rows + at.head * g.head_size, g.qkv_stride, first_query, g, wide);
  const int keys_seen = g.causal ? first_query + kTile : g.context;  // rounded up: tiles of keys are as long
  for (int key = 0; key < keys_seen; key += kTile) {
    __syncthreads();
    load_rows<kHead>(k, k_head, g.qkv_stride, key, g, wide);
    load_rows<kHead>(v, v_head, g.qkv_stride, key, g, wide);
    __syncthreads();
    float s[kRows][kCols];
    dot_rows<kHead>(s, q, k, columns_read(g));
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        s[i][j] = sees(g, first_query + own_row(i), key + stream_column(j)) ? s[i][j] * g.scale : -INFINITY;
      }
    softmax.take(s, acc);
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        s[i][j] *= dropout_factor(g, first_block, first_query + own_row(i), key + stream_column(j));
      }
    publish(weights, s);
    __syncwarp();
    add_rows<kHead>(acc, weights, v);
  }
  float factor[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    factor[i] = 1 / softmax.sum[i];
    const int row = first_query + own_row(i);
    if (thread_x() == 0 && row < g.context) {
      lse[at.head_of_all * g.context + row] = softmax.max[i] + logf(softmax.sum[i]);
    }
  }
  T* out_head = out + at.sequence * g.context * g.out_stride + at.head * g.head_size;
  store_rows<kHead>(out_head, g.out_stride, first_query, g, acc, factor);
}

/// ds of one score, which becomes its probability after dropout. `dp` comes without dropout.
SIMT_DEV float score_gradient(float& score, float dp, const Geometry& g, uint64_t first_block, int query, int key,
                              const float* statistics) {
  if (!sees(g, query, key)) return score = 0;
  const float kept = dropout_factor(g, first_block, query, key);
  const float p = exp2f(score * g.scale * kLog2E - statistics[query]);
  score = p * kept;
  return p * (dp * kept - statistics[query + g.padded]);
}

/// dk and dv of one tile of keys: streams the query tiles of each query head of the group in turn.
template <class T, int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    key_kernel(T* dqkv, const T* qkv, const T* dout, const float* statistics, Geometry g, bool wide) {
  SIMT_DYN_SMEM(float, k);
  float *v = k + kTileFloats<kHead>, *q = v + kTileFloats<kHead>, *d = q + kTileFloats<kHead>;
  float *p_weights = d + kTileFloats<kHead>, *ds_weights = p_weights + kWeightFloats;
  const Place at((g.context + kTile - 1) / kTile, g.kv_heads);
  const int first_key = at.tile * kTile;
  const int64_t row0 = at.sequence * g.context;
  const int64_t k_offset = row0 * g.qkv_stride + (g.heads + at.head) * g.head_size;
  const int64_t v_offset = k_offset + static_cast<int64_t>(g.kv_heads) * g.head_size;

  float dk[kRows][kHead / 16] = {}, dv[kRows][kHead / 16] = {};
  load_rows<kHead>(k, qkv + k_offset, g.qkv_stride, first_key, g, wide);
  load_rows<kHead>(v, qkv + v_offset, g.qkv_stride, first_key, g, wide);
  const int group = g.heads / g.kv_heads;
  for (int head = at.head * group; head < (at.head + 1) * group; ++head) {
    const uint64_t first_block = first_dropout_block(g, at.sequence, head);
    const float* of_head = statistics + (at.sequence * g.heads + head) * 2 * g.padded;
    for (int query = g.causal ? first_key : 0; query < g.context; query += kTile) {
      __syncthreads();
      load_rows<kHead>(q, qkv + row0 * g.qkv_stride + head * g.head_size, g.qkv_stride, query, g, wide);
      load_rows<kHead>(d, dout + row0 * g.out_stride + head * g.head_size, g.out_stride, query, g, wide);
      __syncthreads();
      float s[kRows][kCols], ds[kRows][kCols];
      dot_rows<kHead>(s, k, q, columns_read(g));
      dot_rows<kHead>(ds, v, d, columns_read(g));
#pragma unroll
      for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kCols; ++j) {
          ds[i][j] = score_gradient(s[i][j], ds[i][j], g, first_block, query + stream_column(j), first_key + own_row(i),
                                    of_head);
        }
      publish(p_weights, s);
      publish(ds_weights, ds);
      __syncwarp();
      add_rows<kHead>(dv, p_weights, d);
      add_rows<kHead>(dk, ds_weights, q);
    }
  }
  const float one[kRows] = {1, 1, 1, 1}, scale[kRows] = {g.scale, g.scale, g.scale, g.scale};
  store_rows<kHead>(dqkv + v_offset, g.qkv_stride, first_key, g, dv, one);
  store_rows<kHead>(dqkv + k_offset, g.qkv_stride, first_key, g, dk, scale);
}

/// dq of one tile of queries: streams the key tiles that it sees.
template <class T, int kHead>
__global__ void __launch_bounds__(kThreads, kBlocks<kHead>)
    query_kernel(T* dqkv, const T* qkv, const T* dout, const float* statistics, Geometry g, bool wide) {
  SIMT_DYN_SMEM(float, q);
  float *d = q + kTileFloats<kHead>, *k = d + kTileFloats<kHead>, *v = k + kTileFloats<kHead>;
  float* weights = v + kTileFloats<kHead>;
  const Place at((g.context + kTile - 1) / kTile, g.heads);
  const int first_query = at.tile * kTile;
  const int64_t row0 = at.sequence * g.context;
  const int64_t q_offset = row0 * g.qkv_stride + at.head * g.head_size;
  const T* k_head = qkv + row0 * g.qkv_stride + (g.heads + at.head / (g.heads / g.kv_heads)) * g.head_size;
  const T* v_head = k_head + g.kv_heads * g.head_size;
  const uint64_t first_block = first_dropout_block(g, at.sequence, at.head);
  const float* of_head = statistics + at.head_of_all * 2 * g.padded;

  float dq[kRows][kHead / 16] = {};
  load_rows<kHead>(q, qkv + q_offset, g.qkv_stride, first_query, g, wide);
  load_rows<kHead>(d, dout + row0 * g.out_stride + at.head * g.head_size, g.out_stride, first_query, g, wide);
  const int keys_seen = g.causal ? first_query + kTile : g.context;  // rounded up: tiles of keys are as long
  for (int key = 0; key < keys_seen; key += kTile) {
    __syncthreads();
    load_rows<kHead>(k, k_head, g.qkv_stride, key, g, wide);
    load_rows<kHead>(v, v_head, g.qkv_stride, key, g, wide);
    __syncthreads();
    float s[kRows][kCols], ds[kRows][kCols];
    dot_rows<kHead>(s, q, k, columns_read(g));
    dot_rows<kHead>(ds, d, v, columns_read(g));
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        ds[i][j] = score_gradient(s[i][j], ds[i][j], g, first_block, first_query + own_row(i), key + stream_column(j),
                                  of_head);
      }
    publish(weights, ds);
    __syncwarp();
    add_rows<kHead>(dq, weights, k);
  }
  const float scale[kRows] = {g.scale, g.scale, g.scale, g.scale};
  store_rows<kHead>(dqkv + q_offset, g.qkv_stride, first_query, g, dq, scale);
}

/// Calls f with the dtype's tag and the rounded head size as an integral constant.
template <class F>
void with_shape(DType dtype, const Geometry& g, F f) {
  with_float(dtype, [&](auto tag) {
    if (g.head_size <= 64) return f(tag, std::integral_constant<int, 64>{});
    if (g.head_size <= 128) return f(tag, std::integral_constant<int, 128>{});
    f(tag, std::integral_constant<int, kLargestHead>{});
  });
}

dim3 grid_of(const Geometry& g, int heads) {
  return dim3(static_cast<unsigned>(g.sequences * heads * ceil_div(g.context, kTile)));
}

}  // namespace

void forward_plain(cudaStream_t stream, const AttentionArgs& args, const Geometry& g) {
  with_shape(args.qkv.dtype, g, [&](auto tag, auto head) {
    using T = typename decltype(tag)::type;
    constexpr int kHead = decltype(head)::value;
    check_launch(simt::launch(forward_kernel<T, kHead>, grid_of(g, g.heads), dim3(kThreads), shared_bytes<kHead>(3, 1),
                              stream, at<T>(args.out), at<float>(args.lse), at<const T>(args.qkv), g,
                              vectorizable(args.qkv, g.head_size)),
                 "attention_forward");
  });
}

void backward_plain(cudaStream_t stream, const AttentionBackwardArgs& args, const Geometry& g,
                    const float* statistics) {
  const bool wide = vectorizable(args.forward.qkv, g.head_size) && vectorizable(args.dout, g.head_size);
  with_shape(args.dqkv.dtype, g, [&](auto tag, auto head) {
    using T = typename decltype(tag)::type;
    constexpr int kHead = decltype(head)::value;
    const auto run = [&](auto kernel, int heads, size_t bytes) {
      check_launch(simt::launch(kernel, grid_of(g, heads), dim3(kThreads), bytes, stream, at<T>(args.dqkv),
                                at<const T>(args.forward.qkv), at<const T>(args.dout), statistics, g, wide),
                   "attention_backward");
    };
    run(key_kernel<T, kHead>, g.kv_heads, shared_bytes<kHead>(4, 2));
    run(query_kernel<T, kHead>, g.heads, shared_bytes<kHead>(4, 1));
  });
}

}  // namespace trident::cuda::attention
