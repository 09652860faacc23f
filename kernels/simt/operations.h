// The table through which the core's race tags, which hold an operation's number, find its clock.
#pragma once

#include "kernels/simt/clocks.h"

namespace simt {

/// Makes a submitted operation known to the core. With the device's mutex held.
void publish_operation(const Op& op);

}  // namespace simt
