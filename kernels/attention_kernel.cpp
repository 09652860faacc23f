#include "kernels/attention_kernel.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/format.h"
#include "core/base/integer.h"
#include "kernels/gpu_scratch.h"

namespace trident {
namespace {

/// The largest and the step of head sizes for which cuDNN has any engine.
constexpr int64_t kLargestHead = 256, kHeadStep = 8;
/// Alignment, and small things whose size depends on the engine.
constexpr int64_t kRoom = 4096;

std::string bytes_text(size_t bytes) { return format_bytes(static_cast<int64_t>(bytes)); }

}  // namespace

std::string cudnn_refusal(AttentionKernel wanted, const AttentionArgs& args) {
  if (wanted == AttentionKernel::own) return "train.attention_kernel: own";
  const DType dtype = args.qkv.dtype;
  if (dtype != DType::bf16 && dtype != DType::f16) {
    return build_string("it computes in bf16 and f16, not in ", dtype_name(dtype));
  }
  if (args.head_size > kLargestHead || args.head_size % kHeadStep != 0) {
    return build_string("it takes head sizes that are multiples of ", kHeadStep, " up to ", kLargestHead, ", not ",
                        args.head_size);
  }
  if (args.dropout > 0) {
    return build_string("its dropout would draw other elements than dropout ", args.dropout,
                        " does on every other device");
  }
  if (args.qkv.dim[0] == 0) return "there are no tokens";
  const size_t bytes = cudnn_backward_bytes(args);
  if (wanted == AttentionKernel::automatic && bytes > kAutomaticWorkspace) {
    return build_string("it would take ", bytes_text(bytes), " of workspace; more than ",
                        bytes_text(kAutomaticWorkspace), " only with train.attention_kernel: cudnn");
  }
  return "";
}

size_t cudnn_forward_bytes(const AttentionArgs&) { return kRoom; }

size_t cudnn_backward_bytes(const AttentionArgs& args) {
  const int64_t rows = args.qkv.dim[0], query_rows = rows * args.heads;
  const auto element = static_cast<int64_t>(dtype_bytes(args.qkv.dtype));
  // The gradients of the scores, in tiles of 64 queries by 128 keys; with grouped heads dk and dv of each query head; a
  // sum for each query.
  const int64_t scores =
      rows / args.context * args.heads * round_up(args.context, 64) * round_up(args.context, 128) * element;
  const int64_t grouped = args.kv_heads == args.heads ? 0 : 2 * query_rows * args.head_size * element;
  return static_cast<size_t>(scores + grouped + query_rows * static_cast<int64_t>(sizeof(float)) + kRoom);
}

size_t attention_scratch_bytes(AttentionKernel wanted, const AttentionArgs& args) {
  const size_t own = cuda::attention_scratch_bytes(args);
  return cudnn_refusal(wanted, args).empty() ? std::max(own, cudnn_forward_bytes(args)) : own;
}

size_t attention_scratch_bytes(AttentionKernel wanted, const AttentionBackwardArgs& args) {
  const size_t own = cuda::attention_scratch_bytes(args);
  return cudnn_refusal(wanted, args.forward).empty() ? std::max(own, cudnn_backward_bytes(args.forward)) : own;
}

AttentionChoice choose_attention(AttentionKernel wanted, const AttentionArgs& args,
                                 const std::function<CudnnOffer()>& ask) {
  std::string refusal = cudnn_refusal(wanted, args);
  if (refusal.empty()) {
    const CudnnOffer offer = ask();
    refusal = offer.refusal;
    if (refusal.empty() &&
        (offer.forward_bytes > cudnn_forward_bytes(args) || offer.backward_bytes > cudnn_backward_bytes(args))) {
      refusal = build_string("it wants ", offer.forward_bytes, " and ", offer.backward_bytes,
                             " bytes of workspace, more than the ", cudnn_forward_bytes(args), " and ",
                             cudnn_backward_bytes(args), " that are set aside");
    }
  }
  if (!refusal.empty() && wanted == AttentionKernel::cudnn) {
    throw UserError(build_string("train.attention_kernel: cudnn, but cuDNN can't take this attention: ", refusal,
                                 "; set it to auto or own"));
  }
  return {.cudnn = refusal.empty(), .reason = refusal};
}

}  // namespace trident
