// YAML text -> a plain tree with places. Nothing outside yaml.cpp knows which library reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace trident {

/// Where a node begins in its text, both counted from 1.
struct YamlMark {
  int line = 1;
  int column = 1;
};

struct YamlNode {
  enum class Kind : uint8_t { null, scalar, sequence, map };
  struct Key {
    std::string text;
    YamlMark mark;
  };

  Kind kind = Kind::null;
  std::string text;             ///< of a scalar
  bool quoted = false;          ///< a scalar in quotes or a block: a string even if it looks like a number
  std::vector<Key> keys;        ///< of a map, in order, duplicates included; keys[i] belongs to items[i]
  std::vector<YamlNode> items;  ///< of a sequence or a map
  YamlMark mark;
  int source = 0;  ///< 0: the file; k: override k, counted from 1

  /// The first item with this key in a map; null when there is none.
  const YamlNode* find(std::string_view key) const;
  YamlNode* find(std::string_view key) { return const_cast<YamlNode*>(std::as_const(*this).find(key)); }
};

/// Why a text could not be read, and where.
struct YamlFault {
  YamlMark mark;
  std::string message;
};

/// The tree, or else a fault. An empty text is a null node.
struct YamlResult {
  YamlNode root;
  std::optional<YamlFault> fault;
};

/// Reads any bytes without a crash, a hang or unbounded memory: text of at most 256 KiB in UTF-8 without control
/// characters, 24 levels, 20,000 values; anchors, aliases, tags and a second document are faults. Every node's
/// `source` is 0. Text in quotes stays on one line.
YamlResult read_yaml(std::string_view text);

}  // namespace trident
