#include "core/config/explain.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/config/catalog.h"
#include "core/config/field_text.h"
#include "core/config/load.h"
#include "core/config/support.h"

namespace trident {

namespace {

std::string_view group_text(FieldGroup group) {
  switch (group) {
    case FieldGroup::behaviour: return "the result of training";
    case FieldGroup::performance: return "speed and memory only, not the result";
    case FieldGroup::bookkeeping: return "files and messages only";
  }
  return "";
}

/// The values worth asking about: the words of an enum, the first few of a whole number.
std::vector<std::string> probe_values(const CatalogEntry& entry) {
  std::vector<std::string> values = entry.words;
  const FieldRange& range = entry.info.range;
  for (int i = 0; entry.whole && i < 4 && range.contains(range.min + i); ++i) {
    values.push_back(format_number(range.min + i));
  }
  return values;
}

/// "cuda, simt", or "2 and above": asked of the table of what is missing, so that the two can't disagree.
std::string missing_text(const CatalogEntry& entry) {
  std::vector<std::string> missing;
  for (const std::string& value : probe_values(entry)) {
    const std::string override = entry.key + "=" + value;
    const Config config = parse_config("", "", {&override, 1}).config;
    for (const Problem& problem : unsupported(config)) {
      if (problem.keys[0] == entry.key) missing.push_back(value);
    }
  }
  if (missing.empty()) return "";
  return entry.whole ? missing[0] + " and above" : join(missing);
}

/// "one of cpu, cuda, simt (cuda, simt: not in this build)"
std::string legal_text(const CatalogEntry& entry) {
  std::string text = entry.type;
  if (const std::string range = range_text(entry.info.range); !range.empty()) text += ", " + range;
  if (entry.info.zero_is_auto) text += ", or auto";
  if (const std::string missing = missing_text(entry); !missing.empty())
    text += " (not in this build: " + missing + ")";
  return text;
}

bool is_directly_below(const std::string& key, std::string_view section) {
  if (section.empty()) return key.find('.') == std::string::npos;
  return key.size() > section.size() && key.starts_with(section) && key[section.size()] == '.' &&
         key.find('.', section.size() + 1) == std::string::npos;
}

std::string explain_value(const CatalogEntry& entry) {
  std::string text = entry.key + "\n  " + std::string(entry.info.effect) + "\n  Type:    " + legal_text(entry) + "\n";
  if (!entry.info.unit.empty()) text += "  Unit:    " + std::string(entry.info.unit) + "\n";
  text += "  Default: " + entry.default_text + "\n";
  return text + "  Changes: " + std::string(group_text(entry.info.group)) + "\n";
}

std::string explain_section(const std::vector<CatalogEntry>& catalog, std::string_view section) {
  size_t width = 0;
  for (const CatalogEntry& e : catalog) {
    if (is_directly_below(e.key, section)) width = std::max(width, e.key.size());
  }
  std::string text;
  for (const CatalogEntry& e : catalog) {
    if (!is_directly_below(e.key, section)) continue;
    text += "  " + e.key + std::string(width - e.key.size() + 2, ' ') + std::string(e.info.effect);
    text += e.section ? "" : " Default: " + e.default_text + ".";
    text += "\n";
  }
  return text;
}

/// Markdown takes '|' for the end of a cell and '<' for a tag.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}

/// "data.train[0].path" as the catalog has it: "data.train.path".
std::string without_indices(std::string_view key) {
  std::string out;
  for (size_t i = 0; i < key.size(); ++i) {
    const size_t close = key[i] == '[' ? key.find(']', i) : std::string_view::npos;
    if (close == std::string_view::npos) {
      out += key[i];
    } else {
      i = close;
    }
  }
  return out;
}

std::string table_row(const CatalogEntry& e) {
  const std::string unit = e.info.unit.empty() ? "" : "; " + std::string(e.info.unit);
  return "| `" + e.key + "` | " + cell(legal_text(e)) + unit + " | " + cell(e.default_text) + " | " +
         cell(e.info.effect) + " |\n";
}

}  // namespace

std::string explain(std::string_view wanted) {
  const std::string key = without_indices(wanted);
  const std::vector<CatalogEntry> catalog = config_catalog();
  if (key.empty()) return "The config has these keys and sections:\n" + explain_section(catalog, "");
  const auto found = std::find_if(catalog.begin(), catalog.end(), [&](const CatalogEntry& e) { return e.key == key; });
  if (found != catalog.end()) {
    if (!found->section) return explain_value(*found);
    return found->key + (found->list ? " (a list of sections)" : " (a section)") + "\n  " +
           std::string(found->info.effect) + "\n" + explain_section(catalog, key);
  }
  const std::vector<std::string> keys = config_keys();
  const std::string suffix = "." + key;
  const auto named = std::find_if(keys.begin(), keys.end(), [&](const std::string& k) { return k.ends_with(suffix); });
  const std::optional<std::string> nearest =
      named != keys.end() ? std::optional<std::string>(*named) : nearest_name(key, keys);
  throw UserError("there is no key " + quoted(wanted) + "; " +
                  (nearest ? "did you mean " + *nearest + "?" : "`trident explain` without a key lists all sections"));
}

std::string config_reference_markdown() {
  const std::vector<CatalogEntry> catalog = config_catalog();
  const std::string head = "| Key | Legal values | Default | Effect |\n| --- | --- | --- | --- |\n";
  std::string text = "### Top level\n\n" + head;
  for (const CatalogEntry& e : catalog) {
    if (!e.section && is_directly_below(e.key, "")) text += table_row(e);
  }
  for (const CatalogEntry& section : catalog) {
    if (!section.section || !is_directly_below(section.key, "")) continue;
    text += "\n### " + section.key + "\n\n" + std::string(section.info.effect) + "\n\n" + head;
    for (const CatalogEntry& e : catalog) {
      if (!e.section && e.key.starts_with(section.key + ".")) text += table_row(e);
    }
  }
  return text;
}

}  // namespace trident
