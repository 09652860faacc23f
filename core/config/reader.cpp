#include "core/config/reader.h"

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "core/config/catalog.h"
#include "core/config/field_text.h"

namespace trident {

namespace {

std::string found_text(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null: return "nothing";
    case YamlNode::Kind::scalar: return (node.quoted ? "the quoted text " : "") + quoted(node.text);
    case YamlNode::Kind::sequence: return "a list";
    case YamlNode::Kind::map: return "a section";
  }
  return "";
}

/// Visits the fields of one section beside the map that holds their values.
class Reader {
 public:
  Reader(const PlaceText& place_text, LoadedConfig& loaded) : place_text_(place_text), loaded_(loaded) {}

  template <Section T>
  void read_section(T& section, const YamlNode& node) {
    // `train:` with every key below it commented out is an empty section.
    if (node.kind == YamlNode::Kind::null) return;
    if (node.kind != YamlNode::Kind::map) {
      report(node, key_, "expected a section (lines of `key: value`), found " + found_text(node));
      return;
    }
    const YamlNode* const outer_map = std::exchange(map_, &node);
    std::vector<std::string> outer_names = std::exchange(names_, {});
    T::fields(section, *this);
    report_unknown_and_duplicated(node);
    map_ = outer_map;
    names_ = std::move(outer_names);
  }

  /// Called for each declared field of the section that is being read.
  template <class T>
  void operator()(T& value, const FieldInfo& info) {
    names_.emplace_back(info.name);
    const YamlNode* const node = map_->find(info.name);
    if (node == nullptr) return;
    const std::string outer_key = key_;
    key_ = below(info.name);
    loaded_.places.emplace(key_, place_text_(node->source, node->mark));
    if constexpr (Section<T>) {
      read_section(value, *node);
    } else if constexpr (SectionList<T>) {
      read_list(value, *node);
    } else {
      read_value(value, *node, info);
    }
    key_ = outer_key;
  }

  /// The diagnostics in the order of the text, then of the overrides.
  std::vector<Diagnostic> take_diagnostics() {
    std::stable_sort(found_.begin(), found_.end(), [](const Found& a, const Found& b) { return a.order < b.order; });
    std::vector<Diagnostic> diagnostics;
    for (Found& f : found_) diagnostics.push_back(std::move(f.diagnostic));
    return diagnostics;
  }

 private:
  struct Found {
    std::tuple<int, int, int> order;
    Diagnostic diagnostic;
  };

  std::string below(std::string_view name) const {
    return key_.empty() ? std::string(name) : key_ + "." + std::string(name);
  }

  void report(int source, YamlMark mark, std::string key, std::string message) {
    found_.push_back(
        {{source, mark.line, mark.column}, {place_text_(source, mark), std::move(key), std::move(message)}});
  }
  void report(const YamlNode& node, std::string key, std::string message) {
    report(node.source, node.mark, std::move(key), std::move(message));
  }
  void expected(const YamlNode& node, const std::string& what) {
    report(node, key_, "expected " + what + ", found " + found_text(node));
  }

  template <SectionList T>
  void read_list(T& list, const YamlNode& node) {
    if (node.kind == YamlNode::Kind::null) return;
    if (node.kind != YamlNode::Kind::sequence) {
      expected(node, "a list of sections (lines of `- key: value`)");
      return;
    }
    const std::string outer_key = key_;
    for (size_t i = 0; i < node.items.size(); ++i) {
      key_ = outer_key + "[" + std::to_string(i) + "]";
      loaded_.places.emplace(key_, place_text_(node.items[i].source, node.items[i].mark));
      read_section(list.emplace_back(), node.items[i]);
    }
    key_ = outer_key;
  }

  template <class T>
  void read_value(T& value, const YamlNode& node, const FieldInfo& info) {
    if constexpr (kArraySize < T >> 0) {
      read_array(value, node, info);
    } else if (node.kind != YamlNode::Kind::scalar) {
      expected(node, type_text<T>());
    } else if constexpr (std::same_as<T, std::string>) {
      read_string(value, node);
    } else if constexpr (NamedEnum<T>) {
      read_enum(value, node);
    } else if constexpr (std::same_as<T, ByteSize>) {
      const std::optional<ByteSize> size = parse_byte_size(node.text);
      if (!size) return expected(node, type_text<T>());
      value = *size;
    } else if (node.quoted) {
      expected(node, type_text<T>() + " without quotes");
    } else if constexpr (std::same_as<T, bool>) {
      if (node.text != "true" && node.text != "false") return expected(node, type_text<T>());
      value = node.text == "true";
    } else if constexpr (WholeNumber<T>) {
      read_whole(value, node, info);
    } else {
      read_number(value, node, info);
    }
  }

  void read_string(std::string& value, const YamlNode& node) {
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
    if (std::any_of(node.text.begin(), node.text.end(), is_control)) {
      return report(node, key_,
                    "control characters or several lines in " + quoted(node.text) + "; one line of text is meant");
    }
    value = node.text;
  }

  template <NamedEnum T>
  void read_enum(T& value, const YamlNode& node) {
    if (const std::optional<T> named = enum_from_name<T>(node.text)) {
      value = *named;
      return;
    }
    const std::vector<std::string> names(enum_names<T>().begin(), enum_names<T>().end());
    const std::optional<std::string> nearest = nearest_name(node.text, names);
    expected(node, type_text<T>());
    if (nearest) found_.back().diagnostic.message += "; did you mean " + *nearest + "?";
  }

  template <WholeNumber T>
  void read_whole(T& value, const YamlNode& node, const FieldInfo& info) {
    if (info.zero_is_auto && node.text == "auto") {
      value = 0;
      return;
    }
    const std::string what = type_text<T>() + (info.zero_is_auto ? " or auto" : "");
    const std::optional<int64_t> whole = parse_integer(node.text);
    if (!whole) {
      expected(node, what);
      // 1e6 and 1000.0 are easily meant as whole numbers; say how to write them.
      const std::optional<double> number = parse_number(node.text);
      if (number && std::abs(*number) < 1e15 && *number == std::floor(*number)) {
        found_.back().diagnostic.message += "; write " + std::to_string(static_cast<int64_t>(*number));
      }
      return;
    }
    if (!info.range.contains(static_cast<double>(*whole))) return out_of_range(node, info);
    value = static_cast<T>(*whole);
  }

  void read_number(double& value, const YamlNode& node, const FieldInfo& info) {
    const std::optional<double> number = node.quoted ? std::nullopt : parse_number(node.text);
    if (!number) return expected(node, type_text<double>());
    if (!info.range.contains(*number)) return out_of_range(node, info);
    value = *number;
  }

  template <size_t N>
  void read_array(std::array<double, N>& value, const YamlNode& node, const FieldInfo& info) {
    if (node.kind != YamlNode::Kind::sequence) return expected(node, type_text<std::array<double, N>>());
    if (node.items.size() != N) {
      return report(node, key_,
                    build_string("expected ", type_text<std::array<double, N>>(), ", found ", node.items.size()));
    }
    for (size_t i = 0; i < N; ++i) {
      if (node.items[i].kind == YamlNode::Kind::scalar) {
        read_number(value[i], node.items[i], info);
      } else {
        expected(node.items[i], type_text<double>());
      }
    }
  }

  void out_of_range(const YamlNode& node, const FieldInfo& info) {
    std::string message =
        node.text + " is out of range: " + std::string(info.name) + " must be " + range_text(info.range);
    if (!info.unit.empty()) message += " (" + std::string(info.unit) + ")";
    if (info.zero_is_auto && node.text == "0") message += "; write auto to have it derived";
    report(node, key_, std::move(message));
  }

  void report_unknown_and_duplicated(const YamlNode& node) {
    for (size_t i = 0; i < node.keys.size(); ++i) {
      const YamlNode::Key& key = node.keys[i];
      const int source = node.items[i].source;
      if (std::find(names_.begin(), names_.end(), key.text) == names_.end()) {
        report(source, key.mark, below(quoted_if_odd(key.text)), unknown_message(key.text));
      } else if (const YamlNode::Key& first = first_key(node, key.text); &first != &key) {
        report(source, key.mark, below(key.text),
               build_string("set twice, first in line ", first.mark.line, "; keep one"));
      }
    }
  }

  static const YamlNode::Key& first_key(const YamlNode& node, std::string_view name) {
    return *std::find_if(node.keys.begin(), node.keys.end(), [&](const YamlNode::Key& k) { return k.text == name; });
  }

  static std::string quoted_if_odd(const std::string& name) {
    const bool plain = name.size() <= 60 && std::all_of(name.begin(), name.end(), [](char c) {
                         return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
                       });
    return plain && !name.empty() ? name : quoted(name);
  }

  /// The nearest name in this section; else the full key of another section that has this very name.
  std::string unknown_message(const std::string& name) const {
    if (const std::optional<std::string> nearest = nearest_name(name, names_)) {
      return "unknown key; did you mean " + *nearest + "?";
    }
    for (const std::string& key : all_keys_) {
      if (key.ends_with("." + name)) return "unknown key here; did you mean " + key + "?";
    }
    return "unknown key; " + (key_.empty() ? std::string("the config") : key_) + " has " + join(names_);
  }

  const PlaceText& place_text_;
  const std::vector<std::string> all_keys_ = config_keys();
  LoadedConfig& loaded_;
  std::vector<Found> found_;
  std::string key_;                 // of what is being read: "data.train[0]"
  const YamlNode* map_ = nullptr;   // the section's values
  std::vector<std::string> names_;  // the section's declared fields so far
};

}  // namespace

void read_tree(const YamlNode& root, const PlaceText& place_text, LoadedConfig& loaded) {
  Reader reader(place_text, loaded);
  reader.read_section(loaded.config, root);
  for (Diagnostic& d : reader.take_diagnostics()) loaded.diagnostics.push_back(std::move(d));
}

}  // namespace trident
