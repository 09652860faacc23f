// Which attention runs on CUDA: cuDNN's where it keeps this list's contract, else our own. Pure: no CUDA in here.
//
// Policy: cuDNN takes a shape with both directions or not at all, so that forward and backward are of one kind. What
// its dropout draws is not what ours draws (kernels/ops.h), so a call that drops is ours. A choice depends on the shape
// and the device alone: every run of a config makes the same one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "kernels/ops.h"

namespace trident {

enum class AttentionKernel : uint8_t {
  automatic,  ///< cuDNN where it can, within kAutomaticWorkspace
  own,
  cudnn,  ///< or an error
};

/// cuDNN's deterministic backward may keep B x H x C x C elements: more than this is not worth its speed.
constexpr size_t kAutomaticWorkspace = size_t{256} << 20;

/// Why the contract keeps calls of this kind from cuDNN, from shape and dtype alone; "" when it doesn't.
std::string cudnn_refusal(const AttentionArgs&);

/// What cuDNN answers for a shape.
struct CudnnOffer {
  std::string refusal;  ///< "" when it has engines for forward and backward
  size_t forward_bytes = 0, backward_bytes = 0;
};

struct AttentionChoice {
  bool cudnn = false;
  std::string reason;  ///< why not cuDNN; "" when it is
};

/// `ask` is called only where the contract allows cuDNN. Throws UserError when cuDNN is wanted and not to be had.
AttentionChoice choose_attention(AttentionKernel wanted, const AttentionArgs&, const std::function<CudnnOffer()>& ask);

}  // namespace trident
