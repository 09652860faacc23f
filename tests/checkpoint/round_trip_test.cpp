// Any grid reads what any grid wrote: every pair of cuts, bit for bit.
#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

namespace {

const Cut kCuts[] = {{0, 1, 1}, {0, 2, 1}, {1, 2, 1}, {0, 1, 3}, {1, 4, 2}, {0, 3, 2}, {2, 3, 1}, {1, 1, 7}};

}  // namespace

TEST_CASE("every pair of writer and reader cuts gives the same bits", "[checkpoint]") {
  const std::vector<Logical> tensors = sample_tensors();
  for (const Cut& writer : kCuts) {
    TempDir dir;
    const std::string path = save(dir.path(), 200, tensors, writer, 3, writer.zero > 1);
    REQUIRE(path == dir / "step-00000200");
    CHECK(verify_checkpoint(path) == std::vector<std::string>{});
    for (const Cut& reader_cut : kCuts) {
      CheckpointReader reader(path);
      for (const Logical& tensor : tensors) {
        for (int rank = 0; rank < reader_cut.ranks(); ++rank) {
          for (const Slice& slice : slices_of(tensor.shape, reader_cut, rank)) {
            std::vector<float> got(static_cast<size_t>(slice.numel()), -1.0f);
            reader.read(tensor.name, slice, Tensor(got.data(), DType::f32, {slice.numel()}));
            INFO(tensor.name << " " << slice.describe());
            REQUIRE(got == cut(tensor, slice));
          }
        }
      }
    }
  }
}

TEST_CASE("the manifest gives back what the trainer said", "[checkpoint]") {
  TempDir dir;
  const std::string path = save(dir.path(), 12, sample_tensors(), {0, 2, 2});
  CheckpointReader reader(path);
  CHECK(reader.manifest().meta == sample_meta(12));
  CHECK(reader.manifest().files.size() == 4);
  CHECK(reader.has("model.cube"));
  CHECK_FALSE(reader.has("model.cub"));
  CHECK(slurp(dir / "latest") == "step-00000012\n");
}

TEST_CASE("a piece larger than any window comes back whole, also through a column cut", "[checkpoint]") {
  TempDir dir;
  const std::vector<Logical> tensors = {make_logical("w", {1100, 517}, 3)};  // 2.3 MB
  const std::string path = save(dir.path(), 1, tensors, {1, 2, 1});
  CheckpointReader reader(path);
  for (const Slice& slice : {whole(tensors[0].shape), Slice{{3, 200}, {1090, 111}}, Slice{{1099, 516}, {1, 1}}}) {
    std::vector<float> got(static_cast<size_t>(slice.numel()));
    reader.read("w", slice, Tensor(got.data(), DType::f32, {slice.numel()}));
    CHECK(got == cut(tensors[0], slice));
  }
}
