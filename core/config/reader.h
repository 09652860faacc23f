// Tree -> Config: types, ranges, unknown and duplicated keys. Checks each key alone; validate.h checks them together.
#pragma once

#include <functional>
#include <string>

#include "core/config/load.h"
#include "core/config/yaml.h"

namespace trident {

/// The printed place of a node, from its source and mark.
using PlaceText = std::function<std::string(int source, YamlMark mark)>;

/// Fills `loaded` (config, places, diagnostics) from the tree. Keys that are absent or wrong keep their defaults.
void read_tree(const YamlNode& root, const PlaceText& place_text, LoadedConfig& loaded);

}  // namespace trident
