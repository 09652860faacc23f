// Attention's front end: reads the call, and gives it to the tensor cores or to the plain kernels.
//
// Policy: nothing is remembered between forward and backward but lse and out (ops.h); dropout is drawn again from its
// counters. Scratch of backward holds the statistics of each query row.
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace attention {
namespace {

Dropout dropout_of(const AttentionArgs& args) {
  if (args.dropout == 0) return {};
  Dropout d;
  d.key = args.dropout_key;
  d.heads_total = static_cast<uint64_t>(args.heads_total);
  d.first_head = static_cast<uint64_t>(args.first_sequence) * d.heads_total + static_cast<uint64_t>(args.first_head);
  d.blocks = static_cast<uint64_t>(args.context + 3) / 4;
  // uniform01(word) = (word >> 8) * 2^-24 >= p, without the float: word >= ceil(p * 2^24) << 8. p < 1 keeps it in
  // range.
  d.threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(args.dropout) * 0x1p24)) << 8;
  d.factor = 1.0f / (1.0f - args.dropout);
  return d;
}

bool aligned16(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data) % 16 == 0; }

/// Rows of 64, 96 or 128 16-bit elements keep every row 16-byte aligned when the tensor is. The running maximum is kept
/// of unscaled scores, which needs a positive scale.
bool tensor_cores_take(const AttentionArgs& args) {
  const bool size = args.head_size == 64 || args.head_size == 96 || args.head_size == 128;
  return dtype_bytes(args.qkv.dtype) == 2 && size && args.scale > 0 && aligned16(args.qkv) && aligned16(args.out);
}

/// The limits of the kernels that kernels/check.h knows nothing of.
void check_limits(const AttentionArgs& args) {
  if (args.head_size > kLargestHead) {
    throw UserError(
        build_string("attention on CUDA: head size ", args.head_size, " exceeds ", kLargestHead, "; use more heads"));
  }
  if (args.context > std::numeric_limits<int>::max() / 2) {
    throw UserError(build_string("attention on CUDA: a context of ", args.context, " tokens is beyond its indices"));
  }
}

}  // namespace

Geometry::Geometry(const AttentionArgs& args)
    : context(static_cast<int>(args.context)),
      padded(static_cast<int>(padded_context(args.context))),
      heads(static_cast<int>(args.heads)),
      kv_heads(static_cast<int>(args.kv_heads)),
      head_size(static_cast<int>(args.head_size)),
      sequences(args.qkv.dim[0] / args.context),
      qkv_stride((args.heads + 2 * args.kv_heads) * args.head_size),
      out_stride(args.heads * args.head_size),
      scale(args.scale),
      causal(args.causal),
      dropout(dropout_of(args)) {}

}  // namespace attention

void attention_forward(cudaStream_t stream, const AttentionArgs& args) {
  using namespace attention;
  check_limits(args);
  const Geometry geometry(args);
  if (geometry.sequences == 0) return;
  if (tensor_cores_take(args)) {
    forward_on_tensor_cores(stream, args, geometry);
  } else {
    forward_plain(stream, args, geometry);
  }
}

void attention_backward(cudaStream_t stream, const AttentionBackwardArgs& args) {
  using namespace attention;
  check_limits(args.forward);
  const Geometry geometry(args.forward);
  if (geometry.sequences == 0) return;
  ensure(args.scratch.bytes() >= attention_scratch_bytes(args), "attention: scratch holds scratch_bytes(args)");
  auto* statistics = static_cast<float*>(args.scratch.data);
  row_statistics(stream, statistics, args, geometry);
  if (tensor_cores_take(args.forward) && aligned16(args.dqkv) && aligned16(args.dout)) {
    backward_on_tensor_cores(stream, args, geometry, statistics);
  } else {
    backward_plain(stream, args, geometry, statistics);
  }
}

}  // namespace trident::cuda
