// How much memory this process has used.
#pragma once

#include <cstdint>

namespace trident {

/// The most bytes this process has had resident at once: VmHWM of /proc/self/status. -1 where the system does not say.
int64_t peak_resident_bytes();

}  // namespace trident
