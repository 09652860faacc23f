#include "core/config/override.h"

#include <utility>

#include "core/base/error.h"
#include "core/config/text.h"

namespace trident {

namespace {

constexpr size_t kMaxSteps = 16;

/// One step down the tree: into a map by name, or into a list by index.
struct Step {
  std::string name;
  std::optional<int64_t> index;
};

/// "data.train[0].path" -> data, train, 0, path. Empty when the key is malformed.
std::vector<Step> split_key(std::string_view key) {
  std::vector<Step> steps;
  while (steps.size() < kMaxSteps) {
    const size_t end = key.find('.');
    std::string_view part = key.substr(0, end);
    const size_t bracket = part.find('[');
    if (part.empty() || bracket == 0) return {};
    steps.push_back({std::string(part.substr(0, bracket)), std::nullopt});
    if (bracket != std::string_view::npos) {
      if (part.back() != ']') return {};
      const std::optional<int64_t> index = parse_integer(part.substr(bracket + 1, part.size() - bracket - 2));
      if (!index || *index < 0) return {};
      steps.push_back({"", index});
    }
    if (end == std::string_view::npos) return steps;
    key.remove_prefix(end + 1);
  }
  return {};
}

void mark_source(YamlNode& node, int source) {
  node.source = source;
  for (YamlNode& item : node.items) mark_source(item, source);
}

/// The node at this step below `node`, made when a map lacks it; null when `node` can't have it.
YamlNode* step_down(YamlNode& node, const Step& step, int source) {
  if (step.index) {
    const bool has = node.kind == YamlNode::Kind::sequence && static_cast<size_t>(*step.index) < node.items.size();
    return has ? &node.items[static_cast<size_t>(*step.index)] : nullptr;
  }
  if (node.kind == YamlNode::Kind::null) {
    node.kind = YamlNode::Kind::map;
    node.source = source;
  }
  if (node.kind != YamlNode::Kind::map) return nullptr;
  if (YamlNode* found = node.find(step.name)) return found;
  node.keys.push_back({step.name, {}});
  YamlNode& made = node.items.emplace_back();
  made.source = source;
  return &made;
}

}  // namespace

std::optional<std::string> apply_override(YamlNode& root, std::string_view text, int source) {
  const size_t equals = text.find('=');
  const std::vector<Step> steps = split_key(text.substr(0, equals));
  if (equals == std::string_view::npos || steps.empty()) {
    return "expected key=value with a key such as model.layers or data.train[0].path";
  }
  YamlResult value = read_yaml(text.substr(equals + 1));
  if (value.fault) return "the value: " + value.fault->message;
  if (value.root.kind == YamlNode::Kind::map) return "a section can't be set at once; set its keys one by one";
  mark_source(value.root, source);

  YamlNode changed = root;
  YamlNode* node = &changed;
  for (const Step& step : steps) {
    YamlNode* const below = step_down(*node, step, source);
    if (below == nullptr) {
      return step.index ? build_string("there is no list with an element ", *step.index, " here")
                        : "nothing here can hold the key " + quoted(step.name);
    }
    node = below;
  }
  *node = std::move(value.root);
  root = std::move(changed);
  return std::nullopt;
}

}  // namespace trident
