#include "core/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
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

/// The text by lines: the library counts columns in bytes, people count characters.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    starts_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') starts_.push_back(i + 1);
    }
  }

  YamlMark mark(const YAML::Mark& at) const {
    if (at.is_null()) return {};
    YamlMark mark{at.line + 1, 1};
    const size_t start = line_start(at), end = offset(at);
    for (size_t i = start; i < end; ++i) {
      if ((static_cast<unsigned char>(text_[i]) & 0xc0) != 0x80) ++mark.column;
    }
    return mark;
  }

  /// A quote that is never closed swallows all keys up to the next quote, and yaml-cpp 0.7 takes the end of the text
  /// for one. A config has no use for quoted text of several lines, so every quote must close on its line.
  bool quote_closes(const YAML::Mark& at) const {
    const size_t begin = offset(at);
    const char quote = begin < text_.size() ? text_[begin] : ' ';
    if (quote != '"' && quote != '\'') return true;  // a block text after | or >
    for (size_t i = begin + 1; i < text_.size() && text_[i] != '\n'; ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 >= text_.size() || text_[i + 1] != quote) return true;
        ++i;  // '' within single quotes
      }
    }
    return false;
  }

 private:
  size_t line_start(const YAML::Mark& at) const {
    const auto line = static_cast<size_t>(at.line);
    return line < starts_.size() ? starts_[line] : text_.size();
  }
  size_t offset(const YAML::Mark& at) const {
    return std::min(line_start(at) + static_cast<size_t>(at.column), text_.size());
  }

  std::string_view text_;
  std::vector<size_t> starts_;
};

/// Builds the tree from the library's events. The library's own Node tree would lose duplicated keys, expand aliases
/// and recurse without a limit of ours.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const Lines& lines) : lines_(lines) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail(mark, "a second document in one config ('---', or text after the end of the first)");
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
    if (tag == "!" && !lines_.quote_closes(mark)) fail(mark, "the quote that begins here is not closed in its line");
    if (expects_key()) {
      if (++nodes_ > kMaxNodes) fail(mark, build_string("more than ", kMaxNodes, " values"));
      open_.back()->keys.push_back({value, lines_.mark(mark)});
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
  [[noreturn]] void fail(const YAML::Mark& mark, std::string message) const {
    throw FaultFound{{lines_.mark(mark), std::move(message)}};
  }

  void refuse_extras(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) fail(mark, "anchors (&name) are not read; write the value where it is needed");
    if (!tag.empty() && tag != "?" && tag != "!") fail(mark, "tags (" + quoted(tag) + ") are not read; remove it");
  }

  bool expects_key() const {
    return !open_.empty() && open_.back()->kind == YamlNode::Kind::map &&
           open_.back()->keys.size() == open_.back()->items.size();
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    refuse_extras(mark, tag, anchor);
    if (expects_key()) fail(mark, "a key must be a plain word, not a list or a section; is a bracket left open?");
    if (open_.size() >= kMaxLevels) fail(mark, build_string("nested deeper than ", kMaxLevels, " levels"));
    open_.push_back(&add(mark, kind));
  }

  // Pointers in open_ stay valid: only the items of the innermost open node grow.
  YamlNode& add(const YAML::Mark& mark, YamlNode::Kind kind) {
    if (++nodes_ > kMaxNodes) fail(mark, build_string("more than ", kMaxNodes, " values"));
    YamlNode& node = open_.empty() ? root_ : open_.back()->items.emplace_back();
    node.kind = kind;
    node.mark = lines_.mark(mark);
    return node;
  }

  const Lines& lines_;
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
    const bool is_line_end = c == '\n' || (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n');
    if ((c < 0x20 && !is_line_end && c != '\t') || c == 0x7f) {
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
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // some editors begin a file with this mark
  if (std::optional<YamlFault> fault = check_bytes(text)) return {{}, std::move(fault)};
  const Lines lines(text);
  TreeBuilder builder(lines);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    return {builder.take_root(), std::nullopt};
  } catch (const FaultFound& found) {
    return {{}, found.fault};
  } catch (const YAML::Exception& e) {
    return {{}, YamlFault{lines.mark(e.mark), "not readable as YAML: " + e.msg}};
  } catch (const std::exception& e) {
    // The library's scanner also throws standard exceptions on some malformed texts.
    return {{}, YamlFault{{}, std::string("not readable as YAML: ") + e.what()}};
  }
}

}  // namespace trident
