#include "core/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/config/text.h"

namespace trident {

namespace {

constexpr size_t kMaxBytes = 256 * 1024;
constexpr size_t kMaxLevels = 24;
constexpr size_t kMaxNodes = 20000;

/// Carries a fault out of the library's parser. Never leaves this file.
struct FaultFound {
  YamlFault fault;
};

YamlMark to_mark(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

/// Builds the tree from the library's events. The library's own Node tree would lose duplicated keys, expand aliases
/// and recurse without a limit of ours.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "a second document ('---') in one config; keep one per file");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    refuse_extras(mark, "", anchor);
    if (expects_key()) fail(mark, "a key is missing before ':'");
    add(mark, YamlNode::Kind::null);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (*name) are not read; write the value out");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // The library calls a plain scalar "?" and one in quotes "!".
    refuse_extras(mark, tag, anchor);
    if (expects_key()) {
      if (++nodes_ > kMaxNodes) fail(mark, build_string("more than ", kMaxNodes, " values"));
      open_.back()->keys.push_back({value, to_mark(mark)});
      return;
    }
    YamlNode& node = add(mark, YamlNode::Kind::scalar);
    node.text = value;
    node.quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::sequence);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::map);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  [[noreturn]] static void fail(const YAML::Mark& mark, std::string message) {
    throw FaultFound{{to_mark(mark), std::move(message)}};
  }

  static void refuse_extras(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) fail(mark, "anchors (&name) are not read; write the value where it is needed");
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags (" + quoted(tag) + ") are not read; remove it");
  }

  bool expects_key() const {
    return !open_.empty() && open_.back()->kind == YamlNode::Kind::map &&
           open_.back()->keys.size() == open_.back()->items.size();
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse_extras(mark, tag, anchor);
    if (expects_key()) fail(mark, "a key must be a plain word, not a list or a section");
    if (open_.size() >= kMaxLevels) fail(mark, build_string("nested deeper than ", kMaxLevels, " levels"));
    open_.push_back(&add(mark, kind));
  }

  // Pointers in open_ stay valid: only the items of the innermost open node grow.
  YamlNode& add(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (++nodes_ > kMaxNodes) fail(mark, build_string("more than ", kMaxNodes, " values"));
    YamlNode& node = open_.empty() ? root_ : open_.back()->items.emplace_back();
    node.kind = kind;
    node.mark = to_mark(mark);
    return node;
  }

  YamlNode root_;
  std::vector<YamlNode*> open_;
  size_t nodes_ = 0;
  int documents_ = 0;
};

/// Length of the UTF-8 character at `i`, or 0 when the bytes there are not one.
size_t utf8_length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
  const unsigned first = byte(i);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 && first < 0xf5 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 0;
  if (first >= 0xf5 || length == 0) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and numbers past U+10FFFF.
  const unsigned second = byte(i + 1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
      (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return length;
}

/// Finds what is not text before the library sees it: it treats byte 4 as the end, guesses UTF-16 from zeros, and
/// replaces bad UTF-8 silently.
std::optional<YamlFault> check_bytes(std::string_view text) {
  if (text.size() > kMaxBytes) {
    return YamlFault{{}, build_string("the text has ", text.size(), " bytes; a config has at most ", kMaxBytes)};
  }
  YamlMark mark;
  bool in_indent = true;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_length(text, i);
    if (length == 0) return YamlFault{mark, build_string("byte ", static_cast<int>(c), " is not UTF-8 text")};
    if (c == '\t' && in_indent) return YamlFault{mark, "a tab in the indentation; indent with spaces"};
    if ((c < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f) {
      return YamlFault{mark, build_string("control character ", static_cast<int>(c), "; a config is plain text")};
    }
    in_indent = c == '\n' || (in_indent && (c == ' ' || c == '\r'));
    if (c == '\n') {
      mark = {mark.line + 1, 1};
    } else {
      ++mark.column;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size() && i < items.size(); ++i) {
    if (keys[i].text == key) return &items[i];
  }
  return nullptr;
}

YamlResult read_yaml(std::string_view text) {
  if (std::optional<YamlFault> fault = check_bytes(text)) return {{}, std::move(fault)};
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    return {builder.take_root(), std::nullopt};
  } catch (const FaultFound& found) {
    return {{}, found.fault};
  } catch (const YAML::Exception& e) {
    return {{}, YamlFault{to_mark(e.mark), "not readable as YAML: " + e.msg}};
  } catch (const std::exception& e) {
    // The library's scanner also throws standard exceptions on some malformed texts.
    return {{}, YamlFault{{}, std::string("not readable as YAML: ") + e.what()}};
  }
}

}  // namespace trident
