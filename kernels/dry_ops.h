// The op table of a dry run: checks every shape and dtype, computes nothing, touches no data.
#pragma once

#include <memory>

#include "kernels/attention_kernel.h"
#include "kernels/ops.h"

namespace trident {

/// A table whose operations only check (kernels/check.h; InternalError on a broken rule) and whose scratch_bytes are
/// those of `real`, the table of the run being planned. `real` must outlive it.
std::unique_ptr<Ops> make_dry_ops(const Ops& real);
/// The same with the CUDA table's scratch, in every build.
std::unique_ptr<Ops> make_dry_cuda_ops(AttentionKernel attention);

}  // namespace trident
