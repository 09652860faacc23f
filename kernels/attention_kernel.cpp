#include "kernels/attention_kernel.h"

#include "core/base/error.h"
#include "core/base/format.h"

namespace trident {
namespace {

/// The largest and the step of head sizes for which cuDNN has any engine.
constexpr int64_t kLargestHead = 256, kHeadStep = 8;

}  // namespace

std::string cudnn_refusal(const AttentionArgs& args) {
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
  return "";
}

AttentionChoice choose_attention(AttentionKernel wanted, const AttentionArgs& args,
                                 const std::function<CudnnOffer()>& ask) {
  if (wanted == AttentionKernel::own) return {.reason = "train.attention_kernel: own"};
  std::string refusal = cudnn_refusal(args);
  if (refusal.empty()) {
    const CudnnOffer offer = ask();
    refusal = offer.refusal;
    const size_t bytes = std::max(offer.forward_bytes, offer.backward_bytes);
    if (refusal.empty() && wanted == AttentionKernel::automatic && bytes > kAutomaticWorkspace) {
      refusal = build_string("it would take ", format_bytes(static_cast<int64_t>(bytes)), " of workspace; more than ",
                             format_bytes(static_cast<int64_t>(kAutomaticWorkspace)),
                             " only with train.attention_kernel: cudnn");
    }
  }
  if (!refusal.empty() && wanted == AttentionKernel::cudnn) {
    throw UserError(build_string("train.attention_kernel: cudnn, but cuDNN can't take this attention: ", refusal,
                                 "; set it to auto or own"));
  }
  return {.cudnn = refusal.empty(), .reason = refusal};
}

}  // namespace trident
