// From the config to the small option structs that the layers below take. Pure.
#pragma once

#include "core/comm/topology.h"
#include "core/config/config.h"
#include "core/train/engine.h"
#include "core/train/flops.h"
#include "kernels/attention_kernel.h"

namespace trident {

DType dtype_of(Precision);
AttentionKernel attention_kernel_of(AttentionSource);
Topology topology_of(const ParallelConfig&, const ZeroConfig& = {});
ModelShape model_shape_of(const ModelConfig&, const ParallelConfig&);
FlopShape flop_shape_of(const ModelConfig&);

/// Needs a resolved config (parallel.data known), with train.recompute decided.
EngineOptions engine_options_of(const Config&);

}  // namespace trident
