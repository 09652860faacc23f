#include "core/data/prepare.h"

#include <sstream>

#include "core/base/error.h"
#include "core/data/indexed_dataset.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

namespace {

PrepareReport prepare(const PrepareOptions& options, const std::string& standard_input = "") {
  std::istringstream in(standard_input);
  return prepare_data(options, in);
}

// The ids of each document.
std::vector<std::vector<int32_t>> documents_of(const std::string& prefix) {
  const IndexedDataset dataset(prefix);
  std::vector<std::vector<int32_t>> out;
  int64_t at = 0;
  for (int64_t d = 0; d < dataset.documents(); ++d) {
    int64_t length = 0;
    for (int64_t s = dataset.document_begin(d); s < dataset.document_begin(d + 1); ++s)
      length += dataset.sequence_length(s);
    out.emplace_back(static_cast<size_t>(length));
    dataset.read(at, out.back());
    at += length;
  }
  return out;
}

// The text of each document, after checking that each ends with the end-of-document token and holds no other.
std::vector<std::string> texts_of(const std::string& prefix) {
  const auto tokenizer = make_tokenizer("byte");
  std::vector<std::string> out;
  for (const std::vector<int32_t>& ids : documents_of(prefix)) {
    REQUIRE_FALSE(ids.empty());
    CHECK(ids.back() == 256);
    CHECK(std::count(ids.begin(), ids.end(), 256) == 1);
    out.push_back(tokenizer->decode(ids));
  }
  return out;
}

using Texts = std::vector<std::string>;

std::string error_of(const PrepareOptions& options, const std::string& standard_input = "") {
  return message_of<UserError>([&] { prepare(options, standard_input); });
}

}  // namespace

TEST_CASE("text files round-trip byte for byte, one document a file") {
  const TempDir dir;
  std::string binary;
  for (int i = 0; i < 3'000'000; ++i) binary.push_back(static_cast<char>((i * 2654435761u) >> 13));
  write_file(dir.file("a.txt"), "one\r\ntwo\n");
  write_file(dir.file("b.txt"), binary);
  const PrepareReport report =
      prepare({.inputs = {dir.file("a.txt"), dir.file("b.txt")}, .out = dir.file("deep/er/d")});
  const Texts texts = texts_of(dir.file("deep/er/d"));
  REQUIRE(texts.size() == 2);
  CHECK(texts[0] == "one\r\ntwo\n");
  CHECK((texts[1] == binary));
  REQUIRE(report.parts.size() == 1);
  CHECK(report.parts[0].documents == 2);
  CHECK(report.parts[0].tokens == 9 + 3'000'000 + 2);
  CHECK(report.input_bytes == 3'000'009);
  CHECK(report.vocab == 257);
  CHECK(report.seconds > 0);
  CHECK(IndexedDataset(dir.file("deep/er/d")).token_type() == TokenType::u16);
}

TEST_CASE("JSON lines are known by their name, text comes from the standard input") {
  const TempDir dir;
  write_file(dir.file("a.jsonl"), "{\"text\":\"\\u00e9\"}\n{\"text\":\"\"}\n{\"text\":\"b\"}\n");
  const PrepareReport report = prepare({.inputs = {dir.file("a.jsonl"), "-"}, .out = dir.file("d")}, "typed");
  CHECK(texts_of(dir.file("d")) == Texts{"\xC3\xA9", "b", "typed"});
  CHECK(report.empty_documents == 1);
  prepare({.inputs = {"-"}, .out = dir.file("e"), .format = InputFormat::jsonl, .field = "t"}, "{\"t\":\"x\"}");
  CHECK(texts_of(dir.file("e")) == Texts{"x"});
  prepare({.inputs = {dir.file("a.jsonl")}, .out = dir.file("f"), .format = InputFormat::text});
  CHECK(texts_of(dir.file("f")) == Texts{read_file(dir.file("a.jsonl"))});
}

TEST_CASE("bad lines stop the work and leave no file, or are counted") {
  const TempDir dir;
  write_file(dir.file("a.jsonl"), "{\"text\":\"a\"}\nnonsense\n{\"text\":\"b\"}\n");
  PrepareOptions options{.inputs = {dir.file("a.jsonl")}, .out = dir.file("d")};
  CHECK(has_all(error_of(options), {"a.jsonl:2:", "not valid JSON"}));
  CHECK(dir.entries() == 1);
  options.skip_bad_lines = true;
  const PrepareReport report = prepare(options);
  CHECK(report.bad_lines == 1);
  REQUIRE(report.first_bad.size() == 1);
  CHECK(texts_of(dir.file("d")) == Texts{"a", "b"});
}

TEST_CASE("a separator line makes documents") {
  const TempDir dir;
  prepare({.inputs = {"-"}, .out = dir.file("d"), .document_separator = ""}, "a\nb\n\n\nc\n");
  CHECK(texts_of(dir.file("d")) == Texts{"a\nb\n", "c\n"});
}

TEST_CASE("ready token ids go in as they are, without an end token") {
  const TempDir dir;
  prepare({.inputs = {"-"}, .out = dir.file("d"), .tokenizer = "none", .vocab = 70'000}, "1 2 3\n69999\n");
  CHECK(documents_of(dir.file("d")) == std::vector<std::vector<int32_t>>{{1, 2, 3, 69999}});
  CHECK(IndexedDataset(dir.file("d")).token_type() == TokenType::i32);
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("e"), .tokenizer = "none", .vocab = 10}, "1 2 10"),
                {"<stdin>, from byte 0", "token 10", "vocabulary of 10"}));
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("e"), .tokenizer = "none"}, "1"), {"--vocab N"}));
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("e"), .vocab = 300}, "1"), {"--vocab 300", "257"}));
}

TEST_CASE("the valid part of documents is every 1/F-th, whole and reproducible") {
  const TempDir dir;
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += build_string("{\"text\":\"document ", i, "\"}\n");
  const PrepareReport report =
      prepare({.inputs = {"-"}, .out = dir.file("d"), .format = InputFormat::jsonl, .valid_fraction = 0.25}, lines);
  REQUIRE(report.parts.size() == 2);
  CHECK(report.parts[0].prefix == dir.file("d"));
  CHECK(report.parts[0].documents == 75);
  CHECK(report.parts[1].documents == 25);
  const Texts valid = texts_of(dir.file("d-valid"));
  CHECK(valid[0] == "document 3");
  CHECK(valid[24] == "document 99");
  CHECK(texts_of(dir.file("d"))[3] == "document 4");
}

TEST_CASE("a one-document text file is cut at a line end near its last F") {
  const TempDir dir;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += build_string("line ", 10000 + i, "\n");
  write_file(dir.file("a.txt"), text);
  prepare({.inputs = {dir.file("a.txt")}, .out = dir.file("d"), .valid_fraction = 0.1});
  const Texts train = texts_of(dir.file("d")), valid = texts_of(dir.file("d-valid"));
  REQUIRE(train.size() == 1);
  REQUIRE(valid.size() == 1);
  CHECK((train[0] + valid[0] == text));
  CHECK(train[0].back() == '\n');
  CHECK(valid[0].size() == text.size() / 10 - 11);  // the byte 90 % in begins a line, which stays with train
}

TEST_CASE("an impossible split is refused and leaves no file") {
  const TempDir dir;
  PrepareOptions options{.inputs = {"-"}, .out = dir.file("d"), .valid_fraction = 0.1};
  CHECK(has_all(error_of(options, "text"), {"--valid-fraction", "<stdin>", "--document-separator"}));
  options.document_separator = "";
  CHECK(has_all(error_of(options, "a\n\nb\n"), {"d-valid", "2 documents", "0.1"}));
  options.valid_fraction = 1;
  CHECK(has_all(error_of(options, "a"), {"--valid-fraction 1", "[0, 1)"}));
  CHECK(dir.entries() == 0);
}

TEST_CASE("an existing dataset is kept unless it may be replaced") {
  const TempDir dir;
  PrepareOptions options{.inputs = {"-"}, .out = dir.file("d")};
  prepare(options, "first");
  CHECK(has_all(error_of(options, "second"), {dir.file("d"), "already", "--overwrite"}));
  CHECK(texts_of(dir.file("d")) == Texts{"first"});
  options.overwrite = true;
  prepare(options, "second");
  CHECK(texts_of(dir.file("d")) == Texts{"second"});
}

TEST_CASE("wrong inputs and outputs are explained") {
  const TempDir dir;
  CHECK(has_all(error_of({.inputs = {}, .out = dir.file("d")}), {"no input"}));
  CHECK(has_all(error_of({.inputs = {"-"}, .out = ""}), {"--out PREFIX"}));
  CHECK(has_all(error_of({.inputs = {dir.file("none.txt")}, .out = dir.file("d")}), {"none.txt", "No such file"}));
  CHECK(has_all(error_of({.inputs = {dir.file("")}, .out = dir.file("d")}), {"is a directory"}));
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("d")}, ""), {"nothing to write", "empty"}));
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("d"), .tokenizer = "wordpiece"}, "x"), {"wordpiece"}));
  write_file(dir.file("file"), "x");
  CHECK(has_all(error_of({.inputs = {"-"}, .out = dir.file("file/d")}, "x"), {"directory", dir.file("file")}));
}
