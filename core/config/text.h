// Small text tools of the config layer: numbers that read back exactly, lists, and "did you mean".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trident {

/// The shortest decimal text that reads back as the same double: "0.1", "6e-4", "1e6".
std::string format_number(double x);

/// Whole decimal number ("-12"), all of the text; nothing when it is anything else or does not fit.
std::optional<int64_t> parse_integer(std::string_view text);

/// Finite decimal number ("6e-4", "+.5"), all of the text; nothing when it is anything else.
std::optional<double> parse_number(std::string_view text);

/// "a, b, c"
std::string join(std::span<const std::string> parts, std::string_view separator = ", ");
std::string join(std::span<const std::string_view> parts, std::string_view separator = ", ");

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to a misspelt name, when it is near enough to be meant: within a third of the name's length,
/// and at least within 1.
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> candidates);

/// The text with control characters as \xNN: safe to show whatever the input was.
std::string printable(std::string_view text);

/// The printable text between quotes, cut to 60 bytes.
std::string quoted(std::string_view text);

}  // namespace trident
