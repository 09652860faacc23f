#include "core/config/load.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/base/error.h"
#include "core/config/override.h"
#include "core/config/preset.h"
#include "core/config/reader.h"
#include "core/config/text.h"
#include "core/config/validate.h"

namespace trident {

namespace {

constexpr size_t kMaxListed = 50;

/// A mistake may make others look like mistakes: a key whose own value is wrong, or that is unset in a section with an
/// unknown key (it may be the one that was misspelt), can't be judged together with others.
bool is_in_doubt(const LoadedConfig& loaded, const std::string& key) {
  const size_t dot = key.rfind('.');
  const std::string section = dot == std::string::npos ? "" : key.substr(0, dot);
  for (const Diagnostic& d : loaded.diagnostics) {
    if (d.key == key || key.starts_with(d.key + ".") || key.starts_with(d.key + "[") || d.key.starts_with(key + "["))
      return true;
    const size_t d_dot = d.key.rfind('.');
    const std::string d_section = d_dot == std::string::npos ? "" : d.key.substr(0, d_dot);
    if (d_section == section && !loaded.is_set(d.key) && !loaded.is_set(key)) return true;
  }
  return false;
}

/// The place of a problem: the first of its keys that was set.
Diagnostic locate(const LoadedConfig& loaded, Problem problem) {
  for (const std::string& key : problem.keys) {
    if (loaded.is_set(key)) return {loaded.place_of(key), problem.keys[0], std::move(problem.message)};
  }
  return {loaded.place_of(problem.keys[0]), problem.keys[0], std::move(problem.message)};
}

/// All diagnostics as one message, a line each.
std::string list_diagnostics(const std::vector<Diagnostic>& diagnostics) {
  std::vector<std::string> lines;
  if (diagnostics.size() > 1) lines.push_back(build_string(diagnostics.size(), " mistakes in the config:"));
  for (const Diagnostic& d : diagnostics) {
    if (lines.size() > kMaxListed) {
      lines.push_back(build_string("... and ", diagnostics.size() - kMaxListed, " more"));
      break;
    }
    lines.push_back(d.place + ": " + (d.key.empty() ? "" : d.key + ": ") + d.message);
  }
  return join(lines, "\n");
}

}  // namespace

std::string LoadedConfig::place_of(std::string_view key) const {
  while (!key.empty()) {
    if (const auto it = places.find(key); it != places.end()) return it->second;
    const size_t end = key.find_last_of(".[");
    key = end == std::string_view::npos ? std::string_view() : key.substr(0, end);
  }
  return file + ":1:1";
}

LoadedConfig parse_config(std::string_view text, std::string file, std::span<const std::string> overrides) {
  LoadedConfig loaded;
  loaded.file = std::move(file);
  const auto override_place = [&](size_t i) { return "--set " + printable(overrides[i]); };
  const PlaceText place_text = [&](int source, YamlMark mark) {
    return source > 0 ? override_place(static_cast<size_t>(source - 1))
                      : build_string(loaded.file, ":", mark.line, ":", mark.column);
  };
  YamlResult tree = read_yaml(text);
  if (tree.fault) {
    loaded.diagnostics.push_back({place_text(0, tree.fault->mark), "", tree.fault->message});
    loaded.readable = false;
    return loaded;
  }
  for (size_t i = 0; i < overrides.size(); ++i) {
    if (std::optional<std::string> wrong = apply_override(tree.root, overrides[i], static_cast<int>(i + 1))) {
      loaded.diagnostics.push_back({override_place(i), "", *wrong});
    }
  }
  read_tree(tree.root, place_text, loaded);
  return loaded;
}

Config load_config_text(std::string_view text, const std::string& file, std::span<const std::string> overrides,
                        int ranks) {
  LoadedConfig loaded = parse_config(text, file, overrides);
  std::vector<Diagnostic> diagnostics = loaded.diagnostics;
  if (loaded.readable) {
    resolve(
        loaded.config, [&](std::string_view key) { return loaded.is_set(key); }, ranks);
    for (Problem& problem : validate(loaded.config, ranks)) {
      const bool doubtful = std::any_of(problem.keys.begin(), problem.keys.end(),
                                        [&](const std::string& key) { return is_in_doubt(loaded, key); });
      if (!doubtful) diagnostics.push_back(locate(loaded, std::move(problem)));
    }
  }
  if (!diagnostics.empty()) throw UserError(list_diagnostics(diagnostics));
  return std::move(loaded.config);
}

Config load_config(const std::string& path, std::span<const std::string> overrides, int ranks) {
  std::ifstream stream(path, std::ios::binary);
  std::error_code ignored;
  if (!stream || std::filesystem::is_directory(path, ignored)) {
    throw UserError(path + ": can't read the config file; is the path right?");
  }
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  return load_config_text(text, path, overrides, ranks);
}

}  // namespace trident
