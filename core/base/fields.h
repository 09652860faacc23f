// Fields: a struct declares each of its fields once, and parsing, dump, range checks, `explain` and the reference in
// the README all follow from that declaration.
//
// A struct of settings has plain members with initialisers (the defaults) and one static function template
//
//   template <class Self, class Visitor> static void fields(Self& self, Visitor& visit) {
//     visit(self.steps, {.name = "steps", .unit = "optimizer steps", .range = at_least(1), .effect = "..."});
//   }
//
// A visitor is any object whose operator() takes (T& member, const FieldInfo&); T is const when Self is. Members are
// bool, an integer, double, std::string, a ByteSize, an enum with EnumNames, std::array<double, N>, another struct of
// settings (a section) or a std::vector of sections (a list).
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace trident {

/// What a change of the field changes: the trained weights; only speed and memory; only files and messages.
enum class FieldGroup : uint8_t { behaviour, performance, bookkeeping };

/// The legal numbers of a field, ends included unless open.
struct FieldRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;
  bool max_open = false;

  constexpr bool contains(double x) const { return (min_open ? x > min : x >= min) && (max_open ? x < max : x <= max); }
};

constexpr FieldRange at_least(double min) { return {.min = min}; }
constexpr FieldRange above(double min) { return {.min = min, .min_open = true}; }
constexpr FieldRange between(double min, double max) { return {.min = min, .max = max}; }
/// [min, max)
constexpr FieldRange from_up_to(double min, double max) { return {.min = min, .max = max, .max_open = true}; }

/// Everything about a field that its type and its initialiser do not say. The texts are literals: views stay valid.
struct FieldInfo {
  std::string_view name = {};     ///< the YAML key, equal to the member's name
  std::string_view unit = {};     ///< "" for a pure number, a name or a switch
  FieldRange range = {};          ///< of a number, or of each element of an array
  bool zero_is_auto = false;      ///< the text `auto` is read and written as 0: "derive it"
  std::string_view derived = {};  ///< how the default follows from other keys; "" when the initialiser is the default
  FieldGroup group = FieldGroup::behaviour;
  std::string_view effect = {};  ///< one or two sentences: what it does
};

/// Specialised by each enum of the config: `static constexpr std::string_view value[]`, in the order of enumerators,
/// which count from 0.
template <class E>
struct EnumNames;

template <class T>
concept NamedEnum = std::is_enum_v<T> && requires {
  EnumNames<T>::value;
};

template <NamedEnum E>
constexpr std::span<const std::string_view> enum_names() {
  return EnumNames<E>::value;
}

template <NamedEnum E>
constexpr std::string_view enum_name(E e) {
  return EnumNames<E>::value[static_cast<size_t>(e)];
}

/// The enumerator with this name, if any.
template <NamedEnum E>
constexpr std::optional<E> enum_from_name(std::string_view name) {
  const std::span<const std::string_view> names = enum_names<E>();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<E>(i);
  }
  return std::nullopt;
}

/// An amount of memory: "512MiB", "1.5GiB", "80GB", a plain number of bytes, or "none" for 0.
struct ByteSize {
  int64_t bytes = 0;
  bool operator==(const ByteSize&) const = default;
};

namespace detail {
struct AnyVisitor {
  template <class T>
  void operator()(T&, const FieldInfo&) {}
};
template <class T>
struct VectorElement {
  using type = void;
};
template <class T>
struct VectorElement<std::vector<T>> {
  using type = T;
};
}  // namespace detail

/// A struct of settings: it has `fields`.
template <class T>
concept Section = std::is_class_v<T> && requires(T& t, detail::AnyVisitor& v) {
  T::fields(t, v);
};

/// A vector of sections.
template <class T>
concept SectionList = Section<typename detail::VectorElement<T>::type>;

}  // namespace trident
