// Tensors as vectors of double: the reference reads everything first, computes, and stores at the end, so that every
// in-place use that ops.h permits is safe without thought.
#pragma once

#include <vector>

#include "core/base/tensor.h"

namespace trident::reference {

using Values = std::vector<double>;

/// Every element of a float tensor, row-major. Throws InternalError for an integer dtype.
Values load(const Tensor&);
/// Rounds each value to the tensor's dtype (to nearest even) and writes it. Sizes must agree.
void store(const Tensor&, const Values&);

}  // namespace trident::reference
