// Mutations of valid .idx files: each either loads, and then everything in it can be read, or is refused with a
// message.
#include <algorithm>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/data/indexed_dataset.h"
#include "data/fixtures.h"

using namespace trident;
using namespace trident::test;

namespace {

constexpr int kCases = 10'000;

// Draws for one case: number i of its own sequence.
class Draws {
 public:
  explicit Draws(uint64_t seed) : key_{seed, 0, random_purpose("test.idx.fuzz")} {}
  uint64_t below(uint64_t limit) { return random_u32(key_, next_++) % limit; }

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

// A valid index over a .bin of 64 bytes.
HandIndex valid_index(Draws& draw) {
  constexpr uint8_t kTypes[] = {1, 2, 3, 4, 5, 8};
  HandIndex index;
  index.type = kTypes[draw.below(std::size(kTypes))];
  const int64_t width = token_type_bytes(static_cast<TokenType>(index.type));
  index.documents = {0};
  for (uint64_t s = 0, n = draw.below(12); s < n; ++s) {
    const auto tokens = static_cast<int32_t>(draw.below(static_cast<uint64_t>(64 / width + 1)));
    index.lengths.push_back(tokens);
    index.offsets.push_back(static_cast<int64_t>(draw.below(static_cast<uint64_t>(64 - tokens * width + 1))));
    if (draw.below(3) == 0) index.documents.push_back(static_cast<int64_t>(s + 1));
  }
  index.documents.push_back(static_cast<int64_t>(index.lengths.size()));
  if (draw.below(3) == 0) index.modes.assign(index.lengths.size(), 1);
  return index;
}

void mutate(std::string& bytes, Draws& draw) {
  constexpr int64_t kNumbers[] = {0,  1,         -1,        2,         63,        64,
                                  65, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int64_t{1} << 61};
  for (uint64_t i = 0, n = draw.below(4); i < n && !bytes.empty(); ++i) {
    const size_t at = draw.below(bytes.size());
    switch (draw.below(6)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << draw.below(8))); break;
      case 1: bytes[at] = static_cast<char>(draw.below(256)); break;
      case 2: bytes.resize(at); break;
      case 3: bytes.insert(at, draw.below(20), static_cast<char>(draw.below(256))); break;
      case 4: bytes.erase(at, draw.below(20)); break;
      default: {
        const std::string number = raw(kNumbers[draw.below(std::size(kNumbers))]);
        // Half of them on the two counts, which decide everything that follows.
        const size_t where = draw.below(2) == 0 && bytes.size() > 34 ? 18 + 8 * draw.below(2) : at;
        bytes.replace(where, std::min(number.size(), bytes.size() - where), number, 0,
                      std::min(number.size(), bytes.size() - where));
      }
    }
  }
}

// Everything a training run or `data info` may ask of a dataset.
void read_everything(const IndexedDataset& dataset) {
  std::vector<int32_t> row(static_cast<size_t>(std::min<int64_t>(dataset.tokens(), 9)));
  for (int64_t at = 0; at + static_cast<int64_t>(row.size()) <= dataset.tokens() && !row.empty(); ++at) {
    const IndexedDataset::Place place = dataset.locate(at);
    REQUIRE(place.offset < dataset.sequence_length(place.sequence));
    try {
      dataset.read(at, row);
    } catch (const UserError& error) {  // signed types may hold negative tokens
      REQUIRE(has_all(error.what(), {".bin, byte", "token"}));
    }
  }
  for (int64_t d = 0; d < dataset.documents(); ++d) REQUIRE(dataset.document_begin(d) <= dataset.document_begin(d + 1));
  for (int64_t s = 0; s < dataset.sequences(); ++s) REQUIRE(std::abs(dataset.sequence_mode(s)) <= 128);
}

}  // namespace

TEST_CASE("10,000 mutated indexes: read to the end or refused with a message") {
  const TempDir dir;
  std::string bin;
  for (int i = 0; i < 64; ++i) bin.push_back(static_cast<char>(i * 37));
  write_file(dir.file("d.bin"), bin);
  int loaded = 0;
  for (int i = 0; i < kCases; ++i) {
    INFO("case " << i);
    Draws draw(static_cast<uint64_t>(i));
    std::string bytes = valid_index(draw).bytes();
    mutate(bytes, draw);
    write_file(dir.file("d.idx"), bytes);
    try {
      const IndexedDataset dataset(dir.file("d"));
      read_everything(dataset);
      ++loaded;
    } catch (const UserError& error) {
      REQUIRE(has_all(error.what(), {"d.idx, byte ", "; "}));
    }
  }
  // Both ways out were really taken, many times.
  CHECK(loaded > kCases / 10);
  CHECK(loaded < kCases * 9 / 10);
}
