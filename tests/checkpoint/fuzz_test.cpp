// 10,000 damaged inputs each for the safetensors and the manifest reader: a UserError or success, nothing else, ever.
// Deterministic, so that a failing case number can be run again.
#include <xxhash.h>

#include "checkpoint/support.h"
#include "core/checkpoint/shard_file.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

namespace {

constexpr int kCases = 10'000;

/// One of eight kinds of damage: bits, bytes, digits, cuts, doublings, swaps of tokens that keep the JSON legal.
std::string damaged(std::string text, std::mt19937& random) {
  static const char* kTokens[] = {"0",
                                  "-1",
                                  "1e9",
                                  "18446744073709551615",
                                  "9223372036854775808",
                                  "[]",
                                  "{}",
                                  "null",
                                  "\"\"",
                                  "[[[[[[[[[[",
                                  "true",
                                  "1125899906842624",
                                  "\\u0000",
                                  ":",
                                  ",",
                                  "\"F32\""};
  const int times = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < times && !text.empty(); ++i) {
    const size_t at = random() % text.size();
    const size_t length = std::min<size_t>(1 + random() % 12, text.size() - at);
    switch (random() % 8) {
      case 0: text[at] = static_cast<char>(text[at] ^ (1 << (random() % 8))); break;
      case 1: text[at] = static_cast<char>(random()); break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(random() % text.size(), length)); break;
      case 4: text.replace(at, length, kTokens[random() % std::size(kTokens)]); break;
      case 5: text.resize(at); break;
      default: {  // a number becomes another: the damage that reaches deepest
        const size_t digit = text.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        const size_t end = std::min(text.find_first_not_of("0123456789", digit), text.size());
        text.replace(digit, end - digit, random() % 2 ? std::to_string(random() % 200) : kTokens[random() % 5]);
      }
    }
  }
  return text;
}

std::string with_length(const std::string& json, uint64_t length, const std::string& data) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + json + data;
}

}  // namespace

TEST_CASE("the safetensors reader survives 10,000 damaged files", "[fuzz]") {
  TempDir dir(Medium::memory);
  std::vector<ShardTensor> tensors = {
      {"a", DType::f32, {2, 3}}, {"b", DType::u8, {5}}, {"c[0:2,1:3]", DType::bf16, {2, 2}}};
  const std::string header = shard_header(tensors, {{"format", "pt"}, {"step", "3"}}).substr(8);
  const std::string data(37, 'd'), path = dir / "f.safetensors";
  int accepted = 0, refused = 0;
  for (int i = 0; i < kCases; ++i) {
    std::mt19937 random(static_cast<uint32_t>(i));
    std::string bytes;
    if (i % 2 == 0) {
      const std::string json = damaged(header, random);
      bytes = with_length(json, json.size(), data.substr(0, i % 10 == 0 ? random() % 37 : 37));
    } else {
      bytes = damaged(with_length(header, header.size(), data), random);
    }
    spill(path, bytes);
    INFO("case " << i);
    try {
      ShardFileReader reader(path);
      for (const ShardTensor& tensor : reader.tensors()) {
        std::vector<double> values(static_cast<size_t>(tensor.numel()));
        if (values.empty() || tensor.dtype == DType::u8) continue;
        const int64_t n = tensor.numel();
        try {
          reader.read(tensor, Tensor(values.data(), DType::f64, {n}));
        } catch (const UserError&) {  // integers are not read as floats
        }
      }
      ++accepted;
    } catch (const UserError& error) {
      REQUIRE(contains(error.what(), path));
      ++refused;
    }
  }
  CHECK(accepted + refused == kCases);
  CHECK(accepted > 100);  // damage that keeps a file legal exists: data bytes, metadata, spaces
  CHECK(refused > 5000);
}

TEST_CASE("the manifest reader survives 10,000 damaged texts, with and without a fitting checksum", "[fuzz]") {
  TempDir dir(Medium::memory);
  const std::string text = slurp(save(dir.path(), 200, sample_tensors(), {0, 2, 1}) + "/manifest.json");
  const size_t begin = text.find("\"manifest\":") + 11;
  const std::string body = text.substr(begin, text.size() - begin - 2);
  int accepted = 0, refused = 0;
  for (int i = 0; i < kCases; ++i) {
    std::mt19937 random(static_cast<uint32_t>(i));
    std::string bytes;
    if (i % 8 == 0) {
      bytes = damaged(text, random);
    } else {
      const std::string changed = damaged(body, random);
      bytes = "{\"xxh3\":\"" + checksum_text(XXH3_64bits(changed.data(), changed.size())) +
              "\",\"manifest\":" + changed + "}\n";
    }
    INFO("case " << i);
    try {
      const Manifest manifest = parse_manifest(bytes, "m.json");
      // What was accepted can be used: written again, and its coverage asked for.
      REQUIRE(parse_manifest(manifest_text(manifest), "m.json").tensors.size() == manifest.tensors.size());
      for (const auto& [name, tensor] : manifest.tensors) {
        std::vector<Slice> slices;
        for (const ManifestPiece& piece : tensor.pieces) slices.push_back(piece.slice);
        const std::string problem = coverage_problem(whole(tensor.shape), slices);
        REQUIRE(problem.size() < 1000);
      }
      ++accepted;
    } catch (const UserError& error) {
      REQUIRE(contains(error.what(), "m.json"));
      ++refused;
    }
  }
  CHECK(accepted + refused == kCases);
  CHECK(accepted > 100);
  CHECK(refused > 5000);
}
