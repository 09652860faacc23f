// What one key can't tell: the checks across keys. All failures are found at once.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.h"

namespace trident {

/// One illegal combination. `keys` are all keys that take part; the first is the one to point at.
struct Problem {
  std::vector<std::string> keys;
  std::string message;  ///< the values and the nearest legal ones
};

/// Every illegal combination in a resolved config, and everything this build does not have (core/config/support.h).
/// `ranks` is the size of the world; 0 does not check it.
std::vector<Problem> validate(const Config& config, int ranks);

}  // namespace trident
