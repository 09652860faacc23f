// Attention in bf16 and f32 on processors with AMX: attention.cpp and attention_backward.cpp hand over to it.
#pragma once

#include <cstddef>

#include "kernels/ops.h"

namespace trident::cpu {

/// Whether attention of these tensors runs on AMX tiles here: decided by shapes, dtype and processor alone.
bool attention_takes_amx(const AttentionArgs&);

/// Floats of scratch per thread.
size_t attention_amx_floats(const AttentionArgs&);
size_t attention_amx_floats(const AttentionBackwardArgs&);

/// The contracts of Ops::attention_forward and attention_backward.
void attention_amx(const AttentionArgs&);
void attention_amx(const AttentionBackwardArgs&);

}  // namespace trident::cpu
