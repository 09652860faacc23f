#include "kernels/reference/reference_ops.h"

#include "kernels/reference/reference_table.h"

namespace trident {

std::unique_ptr<Ops> make_reference_ops() { return std::make_unique<reference::ReferenceOps>(); }

}  // namespace trident
