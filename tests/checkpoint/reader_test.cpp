#include "core/checkpoint/reader.h"

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;
namespace fs = std::filesystem;

namespace {

std::string read_error(const std::string& path, const std::string& tensor, const Slice& slice,
                       Checksums checksums = Checksums::verify) {
  return message_of<UserError>([&] {
    CheckpointReader reader(path, checksums);
    std::vector<float> got(static_cast<size_t>(slice.numel()));
    reader.read(tensor, slice, Tensor(got.data(), DType::f32, {slice.numel()}));
  });
}

}  // namespace

TEST_CASE("a load converts to the dtype asked for", "[reader]") {
  TempDir dir;
  const auto tensors = sample_tensors();
  const std::string path = save(dir.path(), 1, tensors, {1, 2, 2});
  CheckpointReader reader(path);
  for (const Logical& tensor : tensors) {
    const auto n = static_cast<int64_t>(tensor.values.size());
    std::vector<bf16> half(tensor.values.size());
    std::vector<double> wide(tensor.values.size());
    reader.read(tensor.name, Tensor(half.data(), DType::bf16, {n}));
    reader.read(tensor.name, Tensor(wide.data(), DType::f64, {n}));
    for (size_t i = 0; i < half.size(); ++i) {
      CHECK(half[i].bits == bf16(tensor.values[i]).bits);
      CHECK(wide[i] == static_cast<double>(tensor.values[i]));
    }
  }
  std::vector<int32_t> ids(7);
  CHECK(contains(
      message_of<UserError>([&] { reader.read("model.layers.0.norm1.weight", Tensor(ids.data(), DType::i32, {7})); }),
      "tensor model.layers.0.norm1.weight [0:7] is f32 and cannot be read as i32"));
}

TEST_CASE("an absent tensor or a slice outside is named", "[reader]") {
  TempDir dir;
  const std::string path = save(dir.path(), 1, sample_tensors(), {0, 1, 1});
  CHECK(read_error(path, "model.none", {{0}, {1}}) == "checkpoint " + path + " has no tensor model.none");
  const std::string outside = read_error(path, "model.cube", {{0, 0, 0}, {3, 4, 6}});
  CHECK(contains(outside, "slice [0:3,0:4,0:6] of tensor model.cube"));
  CHECK(contains(outside, "its shape there is [3,4,5]"));
  CHECK(contains(read_error(path, "model.cube", {{0}, {3}}), "its shape there is [3,4,5]"));
  CHECK(contains(read_error(dir / "none", "w", {{0}, {1}}), "cannot open " + (dir / "none/manifest.json")));
}

TEST_CASE("missing pieces are named with tensor and slice", "[reader]") {
  TempDir dir;
  const std::string path = save(dir.path(), 1, {make_logical("w", {4, 4}, 1)}, {0, 4, 1});
  Manifest manifest = read_manifest(path);
  manifest.tensors["w"].pieces.erase(manifest.tensors["w"].pieces.begin() + 2);
  spill(path + "/manifest.json", manifest_text(manifest));
  CHECK(read_error(path, "w", {{0, 0}, {2, 4}}).empty());
  CHECK(read_error(path, "w", {{1, 1}, {3, 2}}) ==
        "checkpoint " + path + ": tensor w [1:4,1:3]: 2 of the 6 elements of [1:4,1:3] are in no piece");
}

TEST_CASE("a flipped byte is found on first use of its piece, and only there", "[reader]") {
  TempDir dir;
  const std::string path = save(dir.path(), 1, {make_logical("w", {8, 8}, 1)}, {0, 2, 1});
  const std::string shard = path + "/shard-00001-of-00002.safetensors";
  std::string bytes = slurp(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 4);
  spill(shard, bytes);
  CHECK(read_error(path, "w", {{0, 0}, {4, 8}}).empty());
  const std::string error = read_error(path, "w", {{4, 0}, {1, 1}});
  CHECK(contains(error, "tensor w [4:5,0:1]: bytes"));
  CHECK(contains(error, shard + " do not match their checksum"));
  CHECK(read_error(path, "w", {{4, 0}, {1, 1}}, Checksums::trust).empty());
}

TEST_CASE("a missing or short file is named", "[reader]") {
  TempDir dir;
  const std::string path = save(dir.path(), 1, {make_logical("w", {8, 8}, 1)}, {0, 2, 1});
  const std::string shard = path + "/shard-00001-of-00002.safetensors";
  const std::string bytes = slurp(shard);
  spill(shard, bytes.substr(0, bytes.size() - 1));
  CHECK(contains(read_error(path, "w", {{4, 0}, {1, 1}}), "but its manifest says"));
  fs::remove(shard);
  CHECK(contains(read_error(path, "w", {{4, 0}, {1, 1}}), "cannot open " + shard));
}

TEST_CASE("more files than may be open at once", "[reader]") {
  TempDir dir;
  const auto tensors = std::vector<Logical>{make_logical("w", {300, 3}, 1)};
  std::vector<std::string> records;
  const std::string path = dir / "step-00000001";
  fs::create_directories(path);
  const std::atomic<bool> cancelled{false};
  for (int rank = 0; rank < 300; ++rank) {
    const Holding holding = hold(tensors, {0, 300, 1}, rank);
    records.push_back(manifest_records(write_shard(path, rank, 300, 1, holding.pieces, cancelled)));
  }
  write_manifest(path, sample_meta(1), records);
  CheckpointReader reader(path);
  for (int again = 0; again < 2; ++again) {
    std::vector<float> got(900);
    reader.read("w", Tensor(got.data(), DType::f32, {900}));
    CHECK(got == tensors[0].values);
  }
}
