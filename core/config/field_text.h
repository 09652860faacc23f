// Fields as text: the value of a field as YAML, its type and its legal values as people read them.
#pragma once

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/config/text.h"

namespace trident {

template <class T>
concept WholeNumber = std::integral<T> && !std::same_as<T, bool>;

/// Number of elements of a std::array<double, N>; 0 for every other type.
template <class T>
constexpr size_t kArraySize = 0;
template <size_t N>
constexpr size_t kArraySize<std::array<double, N>> = N;

/// A text as YAML: bare when no reader can take it for anything else, else in double quotes.
std::string yaml_string(std::string_view text);

/// Exact, in the largest unit that leaves a whole number: "512MiB", "1000"; "none" for 0.
std::string byte_size_text(ByteSize);
/// Reads what a ByteSize may be; nothing for any other text, negative amounts and those above 2^53.
std::optional<ByteSize> parse_byte_size(std::string_view text);

/// "at least 1", "above 0", "from 0 up to but not 1", ...; "" when every number is legal.
std::string range_text(const FieldRange& range);

/// The type in words: "a whole number", "one of cpu, cuda, simt", ...
template <class T>
std::string type_text() {
  if constexpr (std::same_as<T, bool>) {
    return "true or false";
  } else if constexpr (WholeNumber<T>) {
    return "a whole number";
  } else if constexpr (std::same_as<T, double>) {
    return "a number";
  } else if constexpr (std::same_as<T, std::string>) {
    return "text";
  } else if constexpr (std::same_as<T, ByteSize>) {
    return "an amount of memory such as 512MiB, or none";
  } else if constexpr (NamedEnum<T>) {
    return "one of " + join(enum_names<T>());
  } else if constexpr (kArraySize<T> > 0) {
    return build_string("a list of ", kArraySize<T>, " numbers");
  } else if constexpr (Section<T>) {
    return "a section";
  } else {
    static_assert(SectionList<T>);
    return "a list of sections";
  }
}

/// The value of a field (not of a section) as it stands in YAML.
template <class T>
std::string value_text(const T& value, const FieldInfo& info) {
  if constexpr (std::same_as<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (WholeNumber<T>) {
    return value == 0 && info.zero_is_auto ? "auto" : std::to_string(value);
  } else if constexpr (std::same_as<T, double>) {
    return format_number(value);
  } else if constexpr (std::same_as<T, std::string>) {
    return yaml_string(value);
  } else if constexpr (std::same_as<T, ByteSize>) {
    return byte_size_text(value);
  } else if constexpr (NamedEnum<T>) {
    return std::string(enum_name(value));
  } else {
    static_assert(kArraySize<T> > 0);
    std::string text = "[";
    for (size_t i = 0; i < kArraySize<T>; ++i) text += (i > 0 ? ", " : "") + format_number(value[i]);
    return text + "]";
  }
}

}  // namespace trident
