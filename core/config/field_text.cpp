#include "core/config/field_text.h"

#include <algorithm>
#include <cctype>

namespace trident {

std::string yaml_string(std::string_view text) {
  constexpr std::string_view kSpecial[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "auto"};
  const auto is_bare = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' || c == '/';
  };
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool starts_well = !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/');
  if (starts_well && std::all_of(text.begin(), text.end(), is_bare) &&
      std::find(std::begin(kSpecial), std::end(kSpecial), lower) == std::end(kSpecial)) {
    return std::string(text);
  }
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string range_text(const FieldRange& range) {
  const bool has_min = std::isfinite(range.min), has_max = std::isfinite(range.max);
  std::string text;
  if (has_min) text = (range.min_open ? "above " : has_max ? "from " : "at least ") + format_number(range.min);
  if (has_max) {
    text += text.empty() ? "" : " ";
    text += range.max_open ? "up to but not " : has_min && !range.min_open ? "to " : "up to ";
    text += format_number(range.max);
  }
  return text;
}

}  // namespace trident
