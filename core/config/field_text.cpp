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

namespace {

struct ByteUnit {
  std::string_view name;
  int64_t bytes;
};
constexpr ByteUnit kBinaryUnits[] = {{"TiB", int64_t{1} << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}};
constexpr ByteUnit kDecimalUnits[] = {
    {"TB", 1'000'000'000'000}, {"GB", 1'000'000'000}, {"MB", 1'000'000}, {"kB", 1000}, {"B", 1}};

}  // namespace

std::string byte_size_text(ByteSize size) {
  if (size.bytes == 0) return "none";
  for (const ByteUnit& unit : kBinaryUnits) {
    if (size.bytes % unit.bytes == 0) return std::to_string(size.bytes / unit.bytes) + std::string(unit.name);
  }
  return std::to_string(size.bytes);
}

std::optional<ByteSize> parse_byte_size(std::string_view text) {
  if (text == "none") return ByteSize{};
  int64_t unit = 1;
  const auto take_unit = [&](std::span<const ByteUnit> units) {
    for (const ByteUnit& u : units) {
      if (!text.ends_with(u.name)) continue;
      unit = u.bytes;
      text.remove_suffix(u.name.size());
      while (text.ends_with(' ')) text.remove_suffix(1);
      return true;
    }
    return false;
  };
  // "GiB" ends with "B" too.
  if (!take_unit(kBinaryUnits)) take_unit(kDecimalUnits);
  const std::optional<double> number = parse_number(std::string(text));
  if (!number || !(*number >= 0) || *number * static_cast<double>(unit) > 0x1p53) return std::nullopt;
  return ByteSize{static_cast<int64_t>(std::llround(*number * static_cast<double>(unit)))};
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
