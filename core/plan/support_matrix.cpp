#include "core/plan/support_matrix.h"

namespace trident {

std::string_view support_matrix() {
  return R"(What runs together, as tested: 5 steps of a small GPT-2 in fp32 for every cell. "One result": losses and gradient norms
are equal bit for bit; the lines of a grid follow one rank within 1e-5. Planned bytes are the allocated bytes in every run.

data: 2
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 2
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
pipeline: 2, schedule: gpipe
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
pipeline: 2, schedule: gpipe
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
pipeline: 3
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
pipeline: 3
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 3
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 3
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 2, tensor: 2, sequence: true
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 2, tensor: 2, sequence: true
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 2, pipeline: 2
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 2, pipeline: 2
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 2, pipeline: 2, schedule: interleaved, virtual_stages: 2
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 2, pipeline: 2, schedule: interleaved, virtual_stages: 2
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 2, tensor: 2, schedule: gpipe
    ZeRO 0 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 24 runs, one result
data: 2, tensor: 2, schedule: gpipe
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
data: 4, shard_group: 2
    ZeRO 1 x recompute none, selective, full, full with offload_activations x offload none, host, nvme: 12 runs, one result
data: 4, shard_group: 2
    ZeRO 2 3 x recompute none, selective, full, full with offload_activations x offload none, host, nvme (ZeRO 3: and host, nvme with offload_parameters, too): 32 runs, one result
)";
}

}  // namespace trident
