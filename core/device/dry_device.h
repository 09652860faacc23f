// The planner's device: it records every allocation and does nothing else. Running the real code on it yields the real
// allocation table of any rank of any cluster, on a laptop.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace trident {

/// `real` answers how much scratch each operation takes; it must outlive the device.
std::unique_ptr<Device> make_dry_device(const Ops& real);

}  // namespace trident
