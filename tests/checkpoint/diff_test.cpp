#include "core/checkpoint/diff.h"

#include <cmath>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("checkpoints of two grids with the same values do not differ", "[diff]") {
  TempDir dir;
  const std::string a = save(dir / "a", 1, sample_tensors(), {0, 2, 2}),
                    b = save(dir / "b", 1, sample_tensors(), {1, 3, 1});
  CHECK(diff_checkpoints(a, b).empty());
}

TEST_CASE("every kind of difference is told", "[diff]") {
  TempDir dir;
  std::vector<Logical> of_a = sample_tensors(), of_b = sample_tensors();
  of_b[0].values[17] += 0.5f;
  of_b[0].values[3] = of_a[0].values[3] * 1.0001f;
  of_b[1] = make_logical(of_b[1].name, {8}, 1);
  of_b[2].name = "model.renamed";
  of_b[3].values[59] = NAN;
  const std::string a = save(dir / "a", 1, of_a, {0, 2, 1}), b = save(dir / "b", 1, of_b, {0, 1, 2});
  const auto found = diff_checkpoints(a, b);
  REQUIRE(found.size() == 5);
  CHECK(found[0].tensor == "model.cube");
  CHECK(std::isinf(found[0].max_abs));
  CHECK(contains(found[0].detail, "flat index 59"));
  CHECK(found[1].tensor == "model.embed.token.weight");
  CHECK(found[1].kind == DifferenceKind::values);
  const double x = of_a[0].values[17], y = of_b[0].values[17];
  CHECK(found[1].max_abs == std::abs(x - y));
  CHECK(found[1].max_rel == std::abs(x - y) / std::max(std::abs(x), std::abs(y)));
  CHECK(contains(found[1].detail, "flat index 17"));
  CHECK(found[2].tensor == "model.layers.0.attn.q.weight");
  CHECK(found[2].kind == DifferenceKind::only_in_a);
  CHECK(found[3].kind == DifferenceKind::shape);
  CHECK(found[3].detail == "f32[7] against f32[8]");
  CHECK(found[4].tensor == "model.renamed");
  CHECK(found[4].kind == DifferenceKind::only_in_b);
}

TEST_CASE("both not numbers is no difference", "[diff]") {
  TempDir dir;
  std::vector<Logical> tensors = sample_tensors();
  tensors[0].values[0] = NAN;
  const std::string a = save(dir / "a", 1, tensors, {0, 1, 1}), b = save(dir / "b", 1, tensors, {0, 1, 1});
  CHECK(diff_checkpoints(a, b).empty());
}

TEST_CASE("integers are compared exactly and are no floats", "[diff]") {
  TempDir dir;
  const auto save_integers = [&](const std::string& root, DType type, int64_t value) {
    std::vector<int64_t> memory = {value, 3};
    std::string path;
    ThreadGroup(1).run([&](Communicator& world) {
      CheckpointWriter writer({root, 1, false, {}}, world);
      const std::vector<LocalPiece> pieces = {{"n", {2}, {{0}, {2}}, Tensor(memory.data(), type, {2})}};
      path = writer.begin_save(pieces, sample_meta(1)).value();
    });
    return path;
  };
  const std::string a = save_integers(dir / "a", DType::i64, (int64_t{1} << 60) + 1);
  const auto found = diff_checkpoints(a, save_integers(dir / "b", DType::i64, int64_t{1} << 60));
  REQUIRE(found.size() == 1);
  CHECK(found[0].max_abs == 1);
  const auto mixed = diff_checkpoints(a, save_integers(dir / "c", DType::f64, 0));
  REQUIRE(mixed.size() == 1);
  CHECK(mixed[0].kind == DifferenceKind::shape);
}
