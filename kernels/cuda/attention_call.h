// One attention call as the kernels see it, and the two ways to run it. Which one takes a call: attention.cpp.
//
// Legend: B sequences, C context, P context rounded up to kPadding, T = B * C rows, H query heads, G kv heads, K head
// size.
#pragma once

#include <cuda_runtime_api.h>

#include "core/base/rng.h"
#include "kernels/gpu_scratch.h"
#include "kernels/ops.h"

namespace trident::cuda::attention {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr int kPadding = kAttentionPadding;
constexpr int kLargestHead = 256;  ///< of the plain kernels

/// Dropout of probabilities. A probability has one word (ops.h); 4 consecutive keys of a query share a Philox block.
struct Dropout {
  RandomKey key;
  uint64_t first_head = 0, heads_total = 0;  ///< global number of head 0 of sequence 0; heads of a whole sequence
  uint64_t blocks = 0;                       ///< Philox blocks of one query's row
  uint32_t threshold = 0;                    ///< an element stays when its word reaches this
  float factor = 1;                          ///< what stays is multiplied by it
};

/// Shape and scalars of a call. By value: it is a kernel argument.
struct Geometry {
  int context = 0, padded = 0, heads = 0, kv_heads = 0, head_size = 0;  ///< padded: P
  int64_t sequences = 0;
  int64_t qkv_stride = 0, out_stride = 0;  ///< elements between rows
  float scale = 1;
  bool causal = true;
  Dropout dropout;

  explicit Geometry(const AttentionArgs& args);
  bool drops() const { return dropout.threshold > 0; }
};

/// Tensor cores, 16-byte accesses: what `tensor_cores_take` says yes to.
void forward_on_tensor_cores(cudaStream_t, const AttentionArgs&, const Geometry&);
void backward_on_tensor_cores(cudaStream_t, const AttentionBackwardArgs&, const Geometry&, const float* statistics);

/// FMA in f32: any dtype, alignment and context; head sizes up to kLargestHead.
void forward_plain(cudaStream_t, const AttentionArgs&, const Geometry&);
void backward_plain(cudaStream_t, const AttentionBackwardArgs&, const Geometry&, const float* statistics);

/// statistics [B, H, 2, P] of each query row: lse in units of log 2, then the sum of dout * out. Beyond the context
/// +inf, which makes a row's probabilities 0, and 0.
void row_statistics(cudaStream_t, float* statistics, const AttentionBackwardArgs&, const Geometry&);

}  // namespace trident::cuda::attention
