#include "core/data/indexed_writer.h"

#include <filesystem>

#include "core/base/error.h"
#include "core/data/indexed_dataset.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("the writer's bytes are the layout's bytes, u16") {
  const TempDir dir;
  IndexedDatasetWriter writer(dir.file("d"), 257);
  writer.append(std::vector<int32_t>{10, 11});
  writer.append(std::vector<int32_t>{12});
  writer.end_document();
  writer.end_document();  // a document without tokens
  writer.append(std::vector<int32_t>{13, 14});
  writer.finish();  // ends the open document
  const HandIndex expected = {.lengths = {3, 0, 2}, .offsets = {0, 6, 6}, .documents = {0, 1, 2, 3}, .modes = {}};
  CHECK(read_file(dir.file("d.idx")) == expected.bytes());
  CHECK(read_file(dir.file("d.bin")) == hand_tokens());
  CHECK(writer.documents() == 3);
  CHECK(writer.tokens() == 5);
  CHECK(dir.entries() == 2);
}

TEST_CASE("the vocabulary decides the token type at 65,500") {
  const TempDir dir;
  CHECK(IndexedDatasetWriter(dir.file("a"), 65499).token_type() == TokenType::u16);
  IndexedDatasetWriter writer(dir.file("b"), 65500);
  CHECK(writer.token_type() == TokenType::i32);
  writer.append(std::vector<int32_t>{65499, 0});
  writer.end_document();
  writer.finish();
  CHECK(read_file(dir.file("b.bin")) == raw(int32_t{65499}) + raw(int32_t{0}));
  const HandIndex expected = {.type = 4, .lengths = {2}, .offsets = {0}, .documents = {0, 1}, .modes = {}};
  CHECK(read_file(dir.file("b.idx")) == expected.bytes());
}

TEST_CASE("a long document becomes several sequences of one document") {
  const TempDir dir;
  IndexedDatasetWriter writer(dir.file("d"), 100, 4);
  writer.append(std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  writer.end_document();
  writer.append(std::vector<int32_t>{10, 11, 12, 13});
  writer.end_document();
  writer.finish();
  const IndexedDataset dataset(dir.file("d"));
  CHECK(dataset.documents() == 2);
  REQUIRE(dataset.sequences() == 4);
  CHECK(dataset.sequence_length(2) == 2);
  CHECK(dataset.document_begin(1) == 3);
  std::vector<int32_t> all(14);
  dataset.read(0, all);
  for (int32_t i = 0; i < 14; ++i) CHECK(all[static_cast<size_t>(i)] == i);
}

TEST_CASE("unfinished writers leave nothing behind and an older pair untouched") {
  const TempDir dir;
  write_file(dir.file("d.bin"), "old");
  {
    IndexedDatasetWriter writer(dir.file("d"), 100);
    writer.append(std::vector<int32_t>{1});
    CHECK(dir.entries() == 6);
  }
  CHECK(dir.entries() == 1);
  CHECK(read_file(dir.file("d.bin")) == "old");
}

TEST_CASE("an older pair is replaced") {
  const TempDir dir;
  write_file(dir.file("d.bin"), "old bytes, longer than what comes");
  write_file(dir.file("d.idx"), "old");
  IndexedDatasetWriter writer(dir.file("d"), 100);
  writer.append(std::vector<int32_t>{1});
  writer.finish();
  CHECK(IndexedDataset(dir.file("d")).tokens() == 1);
}

TEST_CASE("the writer refuses tokens outside the vocabulary, naming them") {
  const TempDir dir;
  IndexedDatasetWriter writer(dir.file("d"), 100);
  CHECK(has_all(message_of<UserError>([&] {
                  writer.append(std::vector<int32_t>{1, 100});
                }),
                {"token 100", "document 0", "vocabulary of 100"}));
  CHECK(has_all(message_of<UserError>([&] { writer.append(std::vector<int32_t>{-1}); }), {"token -1"}));
}

TEST_CASE("files: no directory, a full disk") {
  const TempDir dir;
  CHECK(has_all(message_of<UserError>([&] { FileWriter(dir.file("none/x")); }), {"none/x.tmp", "No such file"}));
  // /dev/full fails every write, as a full disk does; the writer's temporary name leads there.
  std::filesystem::create_symlink("/dev/full", dir.file("x.tmp"));
  const std::string large(size_t{3} << 20, 'x');
  const std::string message = message_of<RunError>([&] {
    FileWriter file(dir.file("x"));
    file.write(std::as_bytes(std::span(large)));
    file.commit();
  });
  CHECK(has_all(message, {"x.tmp", "No space left on device"}));
  CHECK(dir.entries() == 0);
}
