// Scratch of the CUDA table: how much each operation takes, and the splits of work that decide it. No CUDA in here:
// every build plans for GPUs, and the kernels ask the same functions.
//
// Policy: of shapes and dtypes alone, never of the device: results, and the plan, are the same on all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace trident::cuda {

/// cuBLASLt's workspace for a product, and behind it the f32 values of vector_length.
size_t gemm_scratch_bytes(const GemmArgs&);
size_t workspace_bytes(const GemmArgs&);
/// The bias as f32, since cuBLASLt wants it in D's type, or the bias gradient.
int64_t vector_length(const GemmArgs&);
constexpr size_t kWorkspaceAlignment = 256;  ///< cublasLtMatmul

size_t norm_scratch_bytes(const NormBackwardArgs&);
/// Blocks of the backward kernel: each leaves a row of sums.
int64_t norm_backward_blocks(int64_t rows, int64_t width);

/// Of our own attention: two statistics of each query row, the context padded to whole tiles.
size_t attention_scratch_bytes(const AttentionArgs&);
size_t attention_scratch_bytes(const AttentionBackwardArgs&);
constexpr int kAttentionPadding = 128;  ///< no tile of queries is longer
int64_t padded_context(int64_t context);

size_t embedding_scratch_bytes(int64_t tokens, int64_t rows);

size_t bias_scratch_bytes(int64_t rows, int64_t columns);
/// Rows of a slab of bias_backward; each slab but a lone one leaves a row of sums.
int64_t bias_slab_rows(int64_t rows);

/// Partial sums of sum and sum_squares, whatever the length.
constexpr size_t kSumScratchBytes = 1024 * sizeof(double);

}  // namespace trident::cuda
