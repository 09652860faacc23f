// Enough of XML to check that a document is well-formed and to find its elements: elements, attributes, text, the five
// named entities and numeric ones. No comments, CDATA or namespaces; a declaration or doctype is skipped.
#pragma once

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <vector>

namespace trident::testing {

struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  ///< directly inside, as written
  std::string attribute(const std::string& key) const {
    const auto at = attributes.find(key);
    return at == attributes.end() ? "" : at->second;
  }
};

struct XmlDocument {
  std::vector<XmlElement> elements;  ///< in order of their start
  std::string problem;               ///< why it is not well-formed; empty when it is
};

class XmlReader {
 public:
  explicit XmlReader(std::string text) : text_(std::move(text)) {}

  XmlDocument read() {
    while (document_.problem.empty() && at_ < text_.size()) {
      if (text_[at_] == '<') {
        tag();
      } else {
        content();
      }
    }
    if (document_.problem.empty() && !open_.empty())
      fail("<" + document_.elements[open_.back()].name + "> is never closed");
    if (document_.problem.empty() && document_.elements.empty()) fail("no element");
    return document_;
  }

 private:
  void fail(const std::string& what) {
    if (document_.problem.empty()) document_.problem = what + " at byte " + std::to_string(at_);
  }

  static bool good_entities(const std::string& text) {
    for (size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
      const std::string name = text.substr(at + 1, text.find(';', at) - at - 1);
      if (text.find(';', at) == std::string::npos) return false;
      const bool number =
          name.size() > 1 && name[0] == '#' && name.find_first_not_of("0123456789", 1) == std::string::npos;
      if (!number && name != "amp" && name != "lt" && name != "gt" && name != "quot" && name != "apos") return false;
    }
    return true;
  }

  void content() {
    const size_t end = std::min(text_.find('<', at_), text_.size());
    const std::string text = text_.substr(at_, end - at_);
    if (!good_entities(text)) fail("a bare & or an unknown entity");
    if (!open_.empty()) {
      document_.elements[open_.back()].text += text;
    } else if (text.find_first_not_of(" \t\r\n") != std::string::npos) {
      fail("text outside the root");
    }
    at_ = end;
  }

  std::string name() {
    const size_t begin = at_;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-' || text_[at_] == ':'))
      ++at_;
    return text_.substr(begin, at_ - begin);
  }

  bool take(const std::string& expected) {
    if (text_.compare(at_, expected.size(), expected) != 0) return false;
    at_ += expected.size();
    return true;
  }

  void tag() {
    if (text_.compare(at_, 2, "<?") == 0 || text_.compare(at_, 2, "<!") == 0) {
      at_ = std::min(text_.find('>', at_), text_.size() - 1) + 1;
      if (!document_.elements.empty()) fail("a declaration inside");
    } else if (take("</")) {
      const std::string closed = name();
      if (open_.empty() || document_.elements[open_.back()].name != closed)
        return fail("</" + closed + "> closes nothing");
      open_.pop_back();
      if (!take(">")) fail("a closing tag has no end");
    } else {
      ++at_;
      element();
    }
  }

  void element() {
    if (open_.empty() && !document_.elements.empty()) return fail("a second root");
    XmlElement element{.name = name(), .attributes = {}, .text = ""};
    if (element.name.empty()) return fail("a tag without a name");
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) {
      ++at_;
      const std::string key = name();
      if (key.empty()) continue;
      if (!take("=\"")) return fail("an attribute without a quoted value");
      const size_t end = text_.find('"', at_);
      if (end == std::string::npos) return fail("a value without an end");
      const std::string value = text_.substr(at_, end - at_);
      if (value.find('<') != std::string::npos || !good_entities(value)) return fail("a value that is not escaped");
      if (!element.attributes.emplace(key, value).second) return fail("an attribute twice");
      at_ = end + 1;
    }
    const bool empty = take("/>");
    if (!empty && !take(">")) return fail("a tag without an end");
    if (!empty) open_.push_back(document_.elements.size());
    document_.elements.push_back(element);
  }

  std::string text_;
  size_t at_ = 0;
  std::vector<size_t> open_;
  XmlDocument document_;
};

inline XmlDocument read_xml(const std::string& text) { return XmlReader(text).read(); }

}  // namespace trident::testing
