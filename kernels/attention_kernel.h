// Which attention runs on CUDA: cuDNN's where it keeps this list's contract, else our own. Pure: no CUDA in here.
//
// Policy: cuDNN takes a shape with both directions or not at all, so that forward and backward are of one kind. What
// its dropout draws is not what ours draws (kernels/ops.h), so a call that drops is ours. Scratch follows from the
// shape and the wish alone, as all of the CUDA table's does (kernels/gpu_scratch.h): cuDNN's workspace is set aside by
// formula in every build, and an engine that wants more is not taken. So the plan of a laptop is the run's.
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

/// What automatic spends on cuDNN's workspace at most: its deterministic backward keeps B x H x C x C elements.
constexpr size_t kAutomaticWorkspace = size_t{256} << 20;

/// Why cuDNN is not asked for calls of this kind, from shape, dtype and wish alone; "" when it is.
std::string cudnn_refusal(AttentionKernel wanted, const AttentionArgs&);

/// Workspace that is set aside for cuDNN where it is asked: what 9.19 takes on Hopper (less on Ampere), and some room.
size_t cudnn_forward_bytes(const AttentionArgs&);
size_t cudnn_backward_bytes(const AttentionArgs&);

/// Scratch of a call, whoever computes it.
size_t attention_scratch_bytes(AttentionKernel wanted, const AttentionArgs&);
size_t attention_scratch_bytes(AttentionKernel wanted, const AttentionBackwardArgs&);

/// What cuDNN answers for a shape.
struct CudnnOffer {
  std::string refusal;  ///< "" when it has engines for forward and backward
  size_t forward_bytes = 0, backward_bytes = 0;
};

struct AttentionChoice {
  bool cudnn = false;
  std::string reason;  ///< why not cuDNN; "" when it is
};

/// `ask` is called where cudnn_refusal has nothing to say. Throws UserError when cuDNN is wanted and not to be had.
AttentionChoice choose_attention(AttentionKernel wanted, const AttentionArgs&, const std::function<CudnnOffer()>& ask);

}  // namespace trident
