// Reading a config: text -> Config, with every mistake reported at once and at its place.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config/config.h"

namespace trident {

/// One mistake: "configs/a.yaml:3:12: model.heads: ..." once printed.
struct Diagnostic {
  std::string place;    ///< "FILE:LINE:COLUMN", both counted from 1, or "--set key=value"
  std::string key;      ///< "model.heads", or "" when no key can be told
  std::string message;  ///< what, the values, the fix
};

/// A config as the user wrote it: not resolved, not validated.
struct LoadedConfig {
  Config config;
  std::string file;
  std::map<std::string, std::string, std::less<>> places;  ///< key -> place, for every key and section that was set
  std::vector<Diagnostic> diagnostics;                     ///< malformed overrides, then in the order of the text
  bool readable = true;                                    ///< the file is YAML; else config is all defaults

  bool is_set(std::string_view key) const { return places.find(key) != places.end(); }
  /// Where the key, or else the nearest section above it, was set; "FILE:1:1" when nothing was.
  std::string place_of(std::string_view key) const;
};

/// Reads YAML text and applies overrides ("model.layers=4"; the value is YAML too, "data.train=[{path: a}]"). Never
/// throws for bad input, whatever the bytes: what is wrong comes back as diagnostics.
/// Limits: 256 KiB of text, 24 levels, 20,000 values; no anchors, aliases, tags or second document.
LoadedConfig parse_config(std::string_view text, std::string file, std::span<const std::string> overrides = {});

/// parse_config, resolve, validate. Throws one UserError that lists every mistake. `ranks` is the size of the world, or
/// 0 for "any number" (plan, explain): parallel.data: auto is then 1.
Config load_config_text(std::string_view text, const std::string& file, std::span<const std::string> overrides,
                        int ranks);

/// The same from a file; UserError when it can't be read.
Config load_config(const std::string& path, std::span<const std::string> overrides, int ranks);

}  // namespace trident
