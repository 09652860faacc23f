#include "kernels/gpu_scratch.h"

#include <algorithm>

#include "core/base/integer.h"

namespace trident::cuda {
namespace {

constexpr size_t kScratchAlignment = 64;  // kernels/ops.h

}  // namespace

/// Room for the partial sums of eight parts of K, in whole 4 KiB; what NVIDIA recommends for Hopper at most.
size_t workspace_bytes(const GemmArgs& args) {
  constexpr size_t kMost = size_t{32} << 20;
  const size_t partial = static_cast<size_t>(args.c_MN.numel()) * sizeof(float);
  return std::min(kMost, (8 * partial + 4095) / 4096 * 4096);
}

int64_t vector_length(const GemmArgs& args) {
  if (args.bias_grad_M.defined()) return args.c_MN.dim[0];
  return args.bias_N.defined() && args.bias_N.dtype != args.c_MN.dtype ? args.c_MN.dim[1] : 0;
}

size_t gemm_scratch_bytes(const GemmArgs& args) {
  const size_t product = kWorkspaceAlignment - kScratchAlignment + workspace_bytes(args) +
                         static_cast<size_t>(vector_length(args)) * sizeof(float);
  if (!args.bias_grad_M.defined()) return product;
  const int64_t inner = args.transpose_a ? args.a.dim[0] : args.a.dim[1];
  return std::max(product, bias_scratch_bytes(inner, args.c_MN.dim[0]));
}

/// At least kRowsPerBlock rows each, so that the partial sums are little beside the rows; at most what 108 SMs hold in
/// two rounds.
int64_t norm_backward_blocks(int64_t rows, int64_t width) {
  constexpr int64_t kRowsPerBlock = 8;
  const int64_t most = width <= 1024 ? 864 : width <= 4096 ? 432 : 216;
  return std::min(most, ceil_div(rows, kRowsPerBlock));
}

size_t norm_scratch_bytes(const NormBackwardArgs& args) {
  const int64_t rows = args.forward.x_TD.dim[0], width = args.forward.x_TD.dim[1];
  const int64_t sums = args.db_D.defined() ? 2 : 1;
  return static_cast<size_t>(sums * norm_backward_blocks(rows, width) * width) * sizeof(float);
}

int64_t padded_context(int64_t context) { return round_up(context, kAttentionPadding); }

size_t attention_scratch_bytes(const AttentionArgs&) { return 0; }

size_t attention_scratch_bytes(const AttentionBackwardArgs& args) {
  const AttentionArgs& f = args.forward;
  const int64_t rows = f.qkv.dim[0] / f.context * f.heads * padded_context(f.context);
  return static_cast<size_t>(2 * rows) * sizeof(float);
}

/// The tokens in the order of their table rows, and those rows.
size_t embedding_scratch_bytes(int64_t tokens, int64_t) { return static_cast<size_t>(tokens) * 2 * sizeof(int32_t); }

/// At least 128 rows a slab, so that the slabs' sums stay below 3 % of the traffic, and at most 128 slabs; whole tiles.
int64_t bias_slab_rows(int64_t rows) {
  constexpr int64_t kMinRows = 128, kMaxSlabs = 128, kTileRows = 8;
  return std::max(kMinRows, round_up(ceil_div(rows, kMaxSlabs), kTileRows));
}

size_t bias_scratch_bytes(int64_t rows, int64_t columns) {
  const int64_t slab_rows = bias_slab_rows(rows), slabs = ceil_div(rows, slab_rows);
  return slabs > 1 ? static_cast<size_t>(slabs * columns) * sizeof(float) : 0;
}

}  // namespace trident::cuda
