// Writing a config.
#pragma once

#include <string>

#include "core/config/config.h"

namespace trident {

/// The config as YAML that reads back as an equal Config: every key, in the order of declaration.
std::string dump_config(const Config& config);

}  // namespace trident
