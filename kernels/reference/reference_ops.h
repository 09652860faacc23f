// The reference table: every operation of kernels/ops.h in double precision and plain loops. It is the oracle of all
// other tables, and the table that gradient tests run whole modules on.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace trident {

/// Loads any float dtype to double, computes in double, rounds once on storing. All-f64 tensors are supported
/// everywhere (activations, statistics, parameters and their gradients alike), so that finite differences of whole
/// modules are exact to about 1e-10. Runs in the calling thread whatever the stream; needs no scratch; allocates
/// temporaries, unlike every other table. Throws InternalError on a broken shape rule (kernels/check.h).
std::unique_ptr<Ops> make_reference_ops();

}  // namespace trident
