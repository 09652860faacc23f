#include "core/config/yaml.h"

#include "core/base/error.h"
#include "support/catch.h"

namespace trident {
namespace {

/// "LINE:COLUMN message" of the fault, or "" when the text reads.
std::string fault_of(std::string_view text) {
  const YamlResult result = read_yaml(text);
  if (!result.fault) return "";
  return build_string(result.fault->mark.line, ":", result.fault->mark.column, " ", result.fault->message);
}

std::string repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("a tree keeps order, kinds, quotes and places") {
  const YamlResult result = read_yaml("a: 1\nb:\n  - x\n  - \"2\"\nc: {d: ~}\n");
  REQUIRE_FALSE(result.fault.has_value());
  const YamlNode& root = result.root;
  REQUIRE(root.kind == YamlNode::Kind::map);
  REQUIRE(root.keys.size() == 3);
  CHECK(root.keys[2].text == "c");
  CHECK(root.keys[2].mark.line == 5);
  CHECK(root.keys[2].mark.column == 1);
  CHECK(root.find("a")->text == "1");
  CHECK(root.find("a")->mark.column == 4);
  CHECK_FALSE(root.find("a")->quoted);
  const YamlNode& list = *root.find("b");
  REQUIRE(list.kind == YamlNode::Kind::sequence);
  REQUIRE(list.items.size() == 2);
  CHECK(list.items[1].quoted);
  CHECK(list.items[1].mark.line == 4);
  CHECK(list.items[1].mark.column == 5);
  CHECK(root.find("c")->find("d")->kind == YamlNode::Kind::null);
  CHECK(root.find("e") == nullptr);
}

TEST_CASE("a duplicated key stays in the tree") {
  const YamlResult result = read_yaml("a: 1\na: 2\n");
  REQUIRE_FALSE(result.fault.has_value());
  CHECK(result.root.keys.size() == 2);
  CHECK(result.root.find("a")->text == "1");
}

TEST_CASE("an empty text is a null node") {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n"}) {
    INFO(text);
    CHECK(fault_of(text).empty());
    CHECK(read_yaml(text).root.kind == YamlNode::Kind::null);
  }
}

TEST_CASE("what YAML can do and a config has no use for is refused at its place") {
  CHECK(fault_of("a: &x 1\n") == "1:4 anchors (&name) are not read; write the value where it is needed");
  CHECK(fault_of("a: 1\nb: *x\n").find("2:4 ") == 0);
  CHECK(fault_of("a: !!int 1\n").find("1:4 tags ('tag:yaml.org,2002:int') are not read") == 0);
  CHECK(fault_of("a: 1\n---\nb: 2\n").find("a second document") != std::string::npos);
  CHECK(fault_of("{[a]: 1}\n").find("1:2 a key must be a plain word") == 0);
  CHECK(fault_of(": 1\n").find("a key is missing before ':'") != std::string::npos);
}

TEST_CASE("what is not text is refused at its place before the library sees it") {
  CHECK(fault_of(std::string("a: 1\nb: \0\n", 10)) == "2:4 control character 0; a config is plain text");
  CHECK(fault_of("a: \x04\n") == "1:4 control character 4; a config is plain text");
  CHECK(fault_of("a: \xff\n") == "1:4 byte 255 is not UTF-8 text");
  CHECK(fault_of("a: \xc0\x80\n") == "1:4 byte 192 is not UTF-8 text");          // overlong
  CHECK(fault_of("a: \xed\xa0\x80\n") == "1:4 byte 237 is not UTF-8 text");      // surrogate
  CHECK(fault_of("a: \xf4\x90\x80\x80\n") == "1:4 byte 244 is not UTF-8 text");  // past U+10FFFF
  CHECK(fault_of("a: \xe2\x82") == "1:4 byte 226 is not UTF-8 text");            // cut off
  CHECK(fault_of("a: \xe2\x82\xac \xf0\x9f\x98\x80\n").empty());
  CHECK(fault_of("a:\n\tb: 1\n") == "2:1 a tab in the indentation; indent with spaces");
}

TEST_CASE("malformed YAML has a place") {
  CHECK(fault_of("a: [1, 2\nb: 3\n").find("not readable as YAML: ") != std::string::npos);
  CHECK(fault_of("a: b: c\n").find("1:5 not readable as YAML: ") == 0);
}

TEST_CASE("a quote that is not closed does not swallow the keys after it") {
  const std::string message = " the quote that begins here is not closed in its line";
  CHECK(fault_of("a: \"x\nb: 1\n") == "1:4" + message);
  CHECK(fault_of("a: 1\nb: {c: 'x\nd: 1}\n") == "2:8" + message);
  CHECK(fault_of("a: 'it''s\nb: 'x'\n") == "1:4" + message);
  CHECK(fault_of("a: \"x\\\"\nb: \"x\"\n") == "1:4" + message);
  CHECK(fault_of("a: \"x").find("not readable as YAML: ") != std::string::npos);
  for (const char* closed :
       {"a: \"x\"\n", "a: 'it''s'\n", "a: ''\n", "a: \"\\\"\"", "a: \"\\\\\"\n", "'a': |\n  \"x\n"}) {
    INFO(closed);
    CHECK(fault_of(closed).empty());
  }
}

TEST_CASE("columns count characters, line ends may be CR LF, and a byte order mark is skipped") {
  CHECK(fault_of("{\xe2\x82\xac: &x 1}\n").find("1:5 anchors") == 0);
  CHECK(fault_of("\xef\xbb\xbf"
                 "a: &x 1\n")
            .find("1:4 anchors") == 0);
  const YamlResult result = read_yaml("a: 1\r\nb: x\r\n");
  REQUIRE_FALSE(result.fault.has_value());
  CHECK(result.root.find("b")->text == "x");
  CHECK(result.root.find("b")->mark.line == 2);
  CHECK(fault_of("a: 1\rb: 2\n") == "1:5 control character 13; a config is plain text");
}

TEST_CASE("size, depth and number of values are bounded") {
  CHECK(fault_of("a: " + std::string(300000, 'x')) == "1:1 the text has 300003 bytes; a config has at most 262144");
  CHECK(fault_of("a: " + std::string(200000, 'x')).empty());
  CHECK(fault_of(repeat("[", 24) + repeat("]", 24)).empty());
  CHECK(fault_of(repeat("[", 25) + repeat("]", 25)) == "1:25 nested deeper than 24 levels");
  for (const char* opening : {"[", "{a: ", "- ", "{", "[{"}) {
    INFO(opening);
    CHECK(fault_of(repeat(opening, 60000 / std::string_view(opening).size())) != "");
  }
  CHECK(fault_of("[" + repeat("1,", 19000) + "1]").empty());
  CHECK(fault_of("[" + repeat("1,", 21000) + "1]").find("more than 20000 values") != std::string::npos);
}

}  // namespace trident
