#include "core/data/indexed_dataset.h"

#include "core/base/error.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

namespace {

template <class T>
std::string token_bytes(const std::vector<T>& tokens) {
  std::string out;
  for (const T token : tokens) out += raw(token);
  return out;
}

void write_pair(const std::string& prefix, const HandIndex& index, const std::string& bin) {
  write_file(prefix + ".idx", index.bytes());
  write_file(prefix + ".bin", bin);
}

std::vector<int32_t> read_all(const IndexedDataset& dataset) {
  std::vector<int32_t> out(static_cast<size_t>(dataset.tokens()));
  dataset.read(0, out);
  return out;
}

template <class T>
void check_type(uint8_t code, const char* name) {
  INFO(name);
  const TempDir dir;
  const std::vector<T> tokens = {T{1}, T{2}, T{3}, T{100}, T{127}};
  HandIndex index = hand_index();
  index.type = code;
  index.offsets = {0, 3 * sizeof(T), 3 * sizeof(T)};
  write_pair(dir.file("d"), index, token_bytes(tokens));
  const IndexedDataset dataset(dir.file("d"));
  CHECK(token_type_name(dataset.token_type()) == name);
  CHECK(read_all(dataset) == std::vector<int32_t>{1, 2, 3, 100, 127});
}

// Opens the pair after `spoil` has changed it; the message must name the file, the byte and the values.
template <class Spoil>
void check_refused(Spoil spoil, const std::vector<std::string>& parts) {
  const TempDir dir;
  HandIndex index = hand_index();
  spoil(index);
  write_pair(dir.file("d"), index, hand_tokens());
  const std::string message = message_of<UserError>([&] { IndexedDataset(dir.file("d")); });
  CHECK(has_all(message, {dir.file("d")}));
  CHECK(has_all(message, parts));
}

}  // namespace

TEST_CASE("a hand-written pair reads back, document by document") {
  const TempDir dir;
  write_pair(dir.file("d"), hand_index(), hand_tokens());
  const IndexedDataset dataset(dir.file("d"));
  CHECK(dataset.tokens() == 5);
  CHECK(dataset.sequences() == 3);
  CHECK(dataset.documents() == 2);
  CHECK_FALSE(dataset.has_modes());
  CHECK(dataset.sequence_mode(2) == 0);
  CHECK(dataset.bin_bytes() == 10);
  CHECK(dataset.document_begin(2) == 3);
  CHECK(read_all(dataset) == std::vector<int32_t>{10, 11, 12, 13, 14});
  std::vector<int32_t> across(3);
  dataset.read(2, across);
  CHECK(across == std::vector<int32_t>{12, 13, 14});
}

TEST_CASE("every integer token type is read") {
  check_type<uint8_t>(1, "u8");
  check_type<int8_t>(2, "i8");
  check_type<int16_t>(3, "i16");
  check_type<int32_t>(4, "i32");
  check_type<int64_t>(5, "i64");
  check_type<uint16_t>(8, "u16");
}

TEST_CASE("u16 tokens above 32767 stay positive") {
  const TempDir dir;
  write_pair(dir.file("d"), {.lengths = {1}, .offsets = {0}, .documents = {0, 1}, .modes = {}}, raw(uint16_t{65000}));
  CHECK(read_all(IndexedDataset(dir.file("d"))) == std::vector<int32_t>{65000});
}

TEST_CASE("sequence modes are read") {
  const TempDir dir;
  HandIndex index = hand_index();
  index.modes = {0, 1, -3};
  write_pair(dir.file("d"), index, hand_tokens());
  const IndexedDataset dataset(dir.file("d"));
  CHECK(dataset.has_modes());
  CHECK(dataset.sequence_mode(1) == 1);
  CHECK(dataset.sequence_mode(2) == -3);
}

TEST_CASE("positions are located across many sequences, empty ones and empty documents") {
  const TempDir dir;
  HandIndex index;
  std::string bin;
  index.documents = {0};
  std::vector<std::array<int64_t, 3>> expected;  // document, sequence, offset of each position
  for (int64_t s = 0; s < 1000; ++s) {
    const int32_t length = static_cast<int32_t>((s * 7) % 5) - (s % 300 < 10 ? 4 : 0);
    index.lengths.push_back(std::max(0, length));
    index.offsets.push_back(static_cast<int64_t>(bin.size()));
    for (int32_t i = 0; i < length; ++i) {
      expected.push_back({static_cast<int64_t>(index.documents.size()) - 1, s, i});
      bin += raw(static_cast<uint16_t>(expected.size() % 60000));
    }
    if (s % 3 == 2) index.documents.push_back(s + 1);
    if (s % 30 == 29) index.documents.push_back(s + 1);  // a document without sequences
  }
  index.documents.push_back(1000);
  write_pair(dir.file("d"), index, bin);
  const IndexedDataset dataset(dir.file("d"));
  REQUIRE(dataset.tokens() == static_cast<int64_t>(expected.size()));
  int64_t wrong = 0;
  for (int64_t p = 0; p < dataset.tokens(); ++p) {
    const IndexedDataset::Place place = dataset.locate(p);
    const auto& want = expected[static_cast<size_t>(p)];
    wrong += place.document != want[0] || place.sequence != want[1] || place.offset != want[2];
  }
  CHECK(wrong == 0);
}

TEST_CASE("sequences may lie anywhere in .bin") {
  const TempDir dir;
  HandIndex index = hand_index();
  index.offsets = {4, 0, 0};  // the last three tokens first, then the first two
  write_pair(dir.file("d"), index, hand_tokens());
  CHECK(read_all(IndexedDataset(dir.file("d"))) == std::vector<int32_t>{12, 13, 14, 10, 11});
}

TEST_CASE("an empty dataset opens and has no tokens") {
  const TempDir dir;
  write_pair(dir.file("d"), {.lengths = {}, .offsets = {}, .documents = {0}, .modes = {}}, "");
  const IndexedDataset dataset(dir.file("d"));
  CHECK(dataset.tokens() == 0);
  CHECK(dataset.documents() == 0);
}

TEST_CASE("the fingerprint changes with the index and with the sizes") {
  const TempDir dir;
  write_pair(dir.file("a"), hand_index(), hand_tokens());
  write_pair(dir.file("b"), hand_index(), hand_tokens());
  write_pair(dir.file("c"), hand_index(), hand_tokens() + "xx");
  HandIndex other = hand_index();
  other.documents = {0, 3, 3};
  write_pair(dir.file("d"), other, hand_tokens());
  const uint64_t a = IndexedDataset(dir.file("a")).fingerprint();
  CHECK(a == IndexedDataset(dir.file("b")).fingerprint());
  CHECK(a != IndexedDataset(dir.file("c")).fingerprint());
  CHECK(a != IndexedDataset(dir.file("d")).fingerprint());
}

TEST_CASE("damaged headers are refused with the byte and the values") {
  check_refused([](HandIndex& i) { i.magic[0] = 'X'; }, {".idx, byte 0", "MMIDIDX"});
  check_refused([](HandIndex& i) { i.version = 7; }, {"byte 9", "version 7"});
  check_refused([](HandIndex& i) { i.type = 0; }, {"byte 17", "code 0"});
  check_refused([](HandIndex& i) { i.type = 9; }, {"byte 17", "code 9"});
  check_refused([](HandIndex& i) { i.type = 6; }, {"byte 17", "f64", "not tokens"});
  check_refused([](HandIndex& i) { i.type = 7; }, {"byte 17", "f32"});
  check_refused([](HandIndex& i) { i.modes = {1}; }, {"byte 18", "3 sequences"});
  check_refused([](HandIndex& i) { i.documents.clear(); }, {"byte 26", "0 document entries"});
}

TEST_CASE("damaged arrays are refused with the byte and the values") {
  check_refused([](HandIndex& i) { i.lengths[1] = -4; }, {"byte 38", "sequence 1", "-4"});
  check_refused([](HandIndex& i) { i.lengths[2] = 3; }, {"byte 42", "sequence 2", "beyond the 10 bytes"});
  check_refused([](HandIndex& i) { i.offsets[0] = -2; }, {"byte 34", "sequence 0", "from byte -2"});
  check_refused([](HandIndex& i) { i.offsets[2] = INT64_MAX; }, {"byte 42", "9223372036854775807"});
  check_refused([](HandIndex& i) { i.documents[0] = 1; }, {"byte 70", "document 0", "sequence 1, not 0"});
  check_refused([](HandIndex& i) { i.documents = {0, 2, 1}; }, {"byte 86", "document 2", "expected 2 to 3"});
  check_refused([](HandIndex& i) { i.documents[1] = 4; }, {"byte 78", "document 1", "sequence 4"});
  check_refused([](HandIndex& i) { i.documents[2] = 2; }, {"byte 26", "sequence 2 of 3"});
}

TEST_CASE("a truncated index is refused at every length") {
  const TempDir dir;
  const std::string whole = hand_index().bytes();
  write_file(dir.file("d.bin"), hand_tokens());
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(dir.file("d.idx"), whole.substr(0, size));
    INFO("size " << size);
    CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("d")); }), {"d.idx, byte"}));
  }
}

TEST_CASE("counts beyond the file are refused before they are multiplied") {
  const TempDir dir;
  std::string bytes = hand_index().bytes();
  write_file(dir.file("d.bin"), hand_tokens());
  bytes.replace(18, 8, raw(uint64_t{1} << 62));
  write_file(dir.file("d.idx"), bytes);
  CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("d")); }), {"byte 18", "4611686018427387904"}));
  bytes = hand_index().bytes();
  bytes.replace(26, 8, raw(UINT64_MAX));
  write_file(dir.file("d.idx"), bytes);
  CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("d")); }), {"byte 26", "18446744073709551615"}));
}

TEST_CASE("a missing file and a file name in the prefix are explained") {
  const TempDir dir;
  write_file(dir.file("d.idx"), hand_index().bytes());
  CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("d")); }), {"no file", "d.bin", "data prepare"}));
  CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("e")); }), {"no file", "e.idx"}));
  write_file(dir.file("d.bin"), hand_tokens());
  CHECK(has_all(message_of<UserError>([&] { IndexedDataset(dir.file("d.bin")); }), {"common prefix", dir.file("d")}));
}

TEST_CASE("tokens outside the vocabulary are named with their byte") {
  const TempDir dir;
  write_pair(dir.file("d"), hand_index(), hand_tokens());
  const IndexedDataset dataset(dir.file("d"));
  std::vector<int32_t> out(5);
  dataset.read(0, out, 15);
  CHECK(has_all(message_of<UserError>([&] { dataset.read(0, out, 14); }),
                {"d.bin, byte 8", "token 14", "vocabulary of 14"}));

  write_pair(dir.file("n"), {.type = 5, .lengths = {2}, .offsets = {0}, .documents = {0, 1}, .modes = {}},
             raw(int64_t{-1}) + raw(int64_t{1} << 40));
  const IndexedDataset negative(dir.file("n"));
  CHECK(has_all(message_of<UserError>([&] { negative.read(0, std::span(out).first(1)); }), {"byte 0", "token -1"}));
  CHECK(
      has_all(message_of<UserError>([&] { negative.read(1, std::span(out).first(1)); }), {"byte 8", "1099511627776"}));
}

TEST_CASE("ranges outside the stream are our own mistake") {
  const TempDir dir;
  write_pair(dir.file("d"), hand_index(), hand_tokens());
  const IndexedDataset dataset(dir.file("d"));
  std::vector<int32_t> out(2);
  CHECK_THROWS_AS(dataset.read(4, out), InternalError);
  CHECK_THROWS_AS(dataset.read(-1, out), InternalError);
  CHECK_THROWS_AS(dataset.locate(5), InternalError);
  CHECK_THROWS_AS(dataset.sequence_length(3), InternalError);
  CHECK_THROWS_AS(dataset.sequence_mode(-1), InternalError);
  CHECK_THROWS_AS(dataset.document_begin(3), InternalError);
}
