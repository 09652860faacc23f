// `--set key=value`: changes the tree before it is read, so that an override is checked exactly as the file is.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/config/yaml.h"

namespace trident {

/// Puts the value of "a.b=VALUE" (VALUE is YAML, "list[0].key=..." reaches into a list) in the tree, in place of the
/// file's value if there is one. `source` marks the nodes. Returns what is wrong, if the override makes no sense by
/// itself; the tree is then unchanged. Unknown keys are left for the reader to name.
std::optional<std::string> apply_override(YamlNode& root, std::string_view text, int source);

}  // namespace trident
