// The one list of what the config can say and this build can't do yet.
#pragma once

#include <vector>

#include "core/config/validate.h"

namespace trident {

/// A Problem for each feature that the config asks for and this build lacks; the message names the nearest that works.
std::vector<Problem> unsupported(const Config& config);

}  // namespace trident
