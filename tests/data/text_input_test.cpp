#include "core/data/text_input.h"

#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

namespace {

// Collects documents and remembers the sizes of the pieces they came in.
struct Collector final : DocumentSink {
  std::vector<std::string> documents;
  std::vector<size_t> pieces;
  std::string open;
  void text(std::string_view piece) override {
    if (piece.find("REFUSED") != std::string_view::npos) throw UserError("a refused word");
    pieces.push_back(piece.size());
    open += piece;
  }
  void end_document() override { documents.push_back(std::exchange(open, {})); }
};

using Documents = std::vector<std::string>;

Documents separated(const std::string& text, const std::string& separator) {
  std::istringstream in(text);
  Collector sink;
  CHECK(read_separated(in, "in.txt", separator, sink) == static_cast<int64_t>(text.size()));
  CHECK(sink.open.empty());
  return sink.documents;
}

Documents json_lines(const std::string& text, JsonLines& how) {
  std::istringstream in(text);
  Collector sink;
  const int64_t bytes = read_json_lines(in, "in.jsonl", how, sink);
  CHECK(bytes == static_cast<int64_t>(text.size()));
  return sink.documents;
}

Documents json_lines(const std::string& text) {
  JsonLines how;
  return json_lines(text, how);
}

std::string json_error(const std::string& text) {
  return message_of<UserError>([&] { json_lines(text); });
}

int64_t cut_of(const std::string& text, double fraction) {
  std::istringstream in(text);
  const int64_t cut = tail_cut(in, static_cast<int64_t>(text.size()), fraction);
  CHECK(in.peek() == text[0]);  // back at the beginning
  return cut;
}

}  // namespace

TEST_CASE("a document longer than a block is cut at line ends, then blanks, and loses nothing") {
  constexpr size_t kMiB = size_t{1} << 20;
  std::string text;
  while (text.size() < 3 * kMiB) text += build_string("line ", text.size(), "\n");
  const std::string words = std::string(kMiB / 2, 'x') + " " + std::string(kMiB, 'y');
  for (const std::string& whole :
       {text, words, std::string(5 * kMiB / 2, 'z'), std::string(), std::string(2 * kMiB, 'e')}) {
    std::istringstream in(whole);
    Collector sink;
    CHECK(read_document(in, "in", INT64_MAX, sink) == static_cast<int64_t>(whole.size()));
    REQUIRE(sink.documents.size() == 1);
    CHECK((sink.documents[0] == whole));
    size_t at = 0;
    for (const size_t piece : sink.pieces) {
      at += piece;
      if (whole.find('\n') != std::string::npos) CHECK(whole[at - 1] == '\n');
    }
  }
}

TEST_CASE("a document can be limited in bytes") {
  std::istringstream in("hello world");
  Collector sink;
  CHECK(read_document(in, "in", 5, sink) == 5);
  CHECK(read_document(in, "in", 100, sink) == 6);
  CHECK(sink.documents == Documents{"hello", " world"});
}

TEST_CASE("separator lines end documents") {
  CHECK(separated("a\nb\n---\nc\n", "---") == Documents{"a\nb\n", "c\n"});
  CHECK(separated("a\n\n\n\nb", "") == Documents{"a\n", "b"});
  CHECK(separated("\n\na\n\n", "") == Documents{"a\n"});
  CHECK(separated("a\r\n\r\nb\r\n", "") == Documents{"a\r\n", "b\r\n"});
  CHECK(separated("a\n--- \n", "---") == Documents{"a\n--- \n"});
  CHECK(separated("", "---").empty());
}

TEST_CASE("JSON lines: escapes, CRLF, blank lines, no line end at the end") {
  CHECK(json_lines("{\"text\": \"a\"}\n{\"text\": \"b\", \"id\": 3}") == Documents{"a", "b"});
  CHECK(json_lines("{\"text\":\"a\"}\r\n\r\n  \n{\"text\":\"b\"}\r\n") == Documents{"a", "b"});
  CHECK(json_lines(R"({"text":"\u00e9 \u20ac \ud83d\ude00 \n\t\"\\\/"})") ==
        Documents{"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \n\t\"\\/"});
  CHECK(json_lines("{\"text\":\"a\\u0000b\"}") == Documents{std::string("a\0b", 3)});
  CHECK(json_lines("{\"text\":\"\"}\n") == Documents{""});
  CHECK(json_lines("{\"text\":\"caf\xC3\xA9\"}\n") == Documents{"caf\xC3\xA9"});
}

TEST_CASE("JSON lines: another field") {
  JsonLines how{.field = "body", .skip_bad_lines = false, .bad_lines = 0, .first_bad = {}};
  CHECK(json_lines(R"({"text":"no","body":"yes"})", how) == Documents{"yes"});
}

TEST_CASE("JSON lines: a line of many megabytes") {
  const std::string huge(size_t{20} << 20, 'h');
  const Documents documents = json_lines("{\"text\":\"" + huge + "\"}\n{\"text\":\"x\"}\n");
  REQUIRE(documents.size() == 2);
  CHECK((documents[0] == huge));
}

TEST_CASE("bad JSON lines are named by file, line and fault") {
  CHECK(has_all(json_error("{\"text\":\"a\"}\n\n{\"text\" \"b\"}\n"),
                {"in.jsonl:3:", "not valid JSON", "column 11", "--skip-bad-lines"}));
  CHECK(has_all(json_error("[1]"), {"in.jsonl:1:", "object", "not array"}));
  CHECK(has_all(json_error("{\"body\":\"a\",\"id\":1}"), {"no field \"text\"", "body, id", "--field"}));
  CHECK(has_all(json_error("{}"), {"no field \"text\"", "none"}));
  CHECK(has_all(json_error("{\"text\":5}"), {"field \"text\" is number, not a string"}));
  CHECK(has_all(json_error("{\"text\":null}"), {"is null"}));
  CHECK(has_all(json_error("{\"text\":\"\xFF\"}"), {"in.jsonl:1:", "not valid JSON"}));
  CHECK(has_all(json_error("{\"text\":\"\\ud800\"}"), {"not valid JSON"}));
  CHECK(has_all(json_error("{\"text\":\"a\"} trailing"), {"not valid JSON"}));
  CHECK(has_all(json_error(std::string(100'000, '[')), {"not valid JSON"}));
  CHECK(has_all(json_error("{\"text\":\"REFUSED\"}"), {"in.jsonl:1: a refused word"}));
}

TEST_CASE("bad JSON lines can be left out, counted and shown") {
  JsonLines how{.field = "text", .skip_bad_lines = true, .bad_lines = 0, .first_bad = {}};
  std::string text = "{\"text\":\"a\"}\n";
  for (int i = 0; i < 8; ++i) text += "oops\n";
  text += "{\"text\":\"b\"}\n";
  CHECK(json_lines(text, how) == Documents{"a", "b"});
  CHECK(how.bad_lines == 8);
  REQUIRE(how.first_bad.size() == 5);
  CHECK(has_all(how.first_bad[0], {"in.jsonl:2:"}));
}

TEST_CASE("what the tokenizer refuses is named with its place") {
  Collector sink;
  std::istringstream whole("one REFUSED");
  CHECK(message_of<UserError>([&] { read_document(whole, "in.txt", INT64_MAX, sink); }) ==
        "in.txt, from byte 0: a refused word");
  std::istringstream lines("one\ntwo REFUSED\n");
  CHECK(message_of<UserError>([&] { read_separated(lines, "in.txt", "-", sink); }) ==
        "in.txt, from line 2: a refused word");
}

TEST_CASE("a stream that breaks is a fault, not an end") {
  struct Broken final : std::streambuf {
    int underflow() override { throw std::runtime_error("gone"); }
  } buffer;
  Collector sink;
  std::istream in(&buffer);
  CHECK(has_all(message_of<RunError>([&] { read_document(in, "pipe", 10, sink); }), {"reading pipe failed"}));
  std::istream lines(&buffer);
  CHECK(has_all(message_of<RunError>([&] { read_separated(lines, "pipe", "-", sink); }), {"reading pipe failed"}));
}

TEST_CASE("the tail is cut at a line end, else at a blank, else exactly") {
  CHECK(cut_of("aaaa\nbbbb\ncccc\ndddd\n", 0.5) == 15);   // byte 10 begins a line; the next line end is at 14
  CHECK(cut_of("aaaa\nbbbb\ncccc\ndddd\n", 0.56) == 10);  // byte 9 is a line end
  CHECK(cut_of("aaaa bbbb cccc dddd\n", 0.5) == 15);      // the only line end closes the file
  CHECK(cut_of("aaaaaaaaaaaaaaaaaaa\n", 0.5) == 10);
  CHECK(cut_of(std::string(3 << 20, 'x') + "\n" + std::string(1 << 20, 'y'), 0.9) == (3 << 20) + 1);
}
