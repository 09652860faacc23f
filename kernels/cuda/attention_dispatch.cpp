#include "kernels/cuda/attention_dispatch.h"

#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

template <class... Tensors>
bool aligned16(const Tensors&... tensors) {
  return ((reinterpret_cast<uintptr_t>(tensors.data) % 16 == 0) && ...);
}

}  // namespace

const AttentionDispatch::Entry& AttentionDispatch::find(const AttentionArgs& args) const {
  const Shape shape{args.qkv.dtype, args.qkv.dim[0], args.context, args.heads,      args.kv_heads,
                    args.head_size, args.scale,      args.causal,  args.dropout > 0};
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(shape);
  if (found != entries_.end()) return found->second;
  Entry entry;
  entry.choice = choose_attention(wanted_, args, [&] {
    CudnnOffer offer;
    entry.plan = library_->plan(args, offer.refusal);
    if (entry.plan)
      offer = {.forward_bytes = entry.plan->forward_bytes(), .backward_bytes = entry.plan->backward_bytes()};
    return offer;
  });
  if (!entry.choice.cudnn) entry.plan.reset();
  return entries_.emplace(shape, std::move(entry)).first->second;  // nodes of a map stay where they are
}

void AttentionDispatch::forward(cudaStream_t stream, const AttentionArgs& args) const {
  const Entry& entry = find(args);
  if (entry.plan && aligned16(args.qkv, args.out, args.lse)) {
    entry.plan->forward(stream, args);
  } else {
    attention_forward(stream, args);
  }
}

void AttentionDispatch::backward(cudaStream_t stream, const AttentionBackwardArgs& args) const {
  const AttentionArgs& f = args.forward;
  const Entry& entry = find(f);
  if (entry.plan && aligned16(f.qkv, f.out, f.lse, args.dqkv, args.dout)) {
    entry.plan->backward(stream, args);
  } else {
    attention_backward(stream, args);
  }
}

size_t AttentionDispatch::scratch_bytes(const AttentionArgs& args) const {
  (void)find(args);  // so that engines are found, or missed, at the start
  return attention_scratch_bytes(wanted_, args);
}

size_t AttentionDispatch::scratch_bytes(const AttentionBackwardArgs& args) const {
  (void)find(args.forward);
  return attention_scratch_bytes(wanted_, args);
}

AttentionChoice AttentionDispatch::choose(const AttentionArgs& args) const { return find(args).choice; }

}  // namespace trident::cuda
