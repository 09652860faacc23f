#include "core/base/tensor.h"

#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

TEST_CASE("a default tensor is absent") {
  const Tensor t;
  CHECK_FALSE(t.defined());
  CHECK(t.dry());
  CHECK(t.numel() == 0);
  CHECK(t.bytes() == 0);
  CHECK(t.describe() == "f32[]");
}

TEST_CASE("shape, size and description") {
  std::vector<uint16_t> data(24);
  const Tensor t(data.data(), DType::bf16, {2, 3, 4}, Place::pinned);
  CHECK(t.defined());
  CHECK_FALSE(t.dry());
  CHECK(t.rank == 3);
  CHECK(t.numel() == 24);
  CHECK(t.row_size() == 12);
  CHECK(t.bytes() == 48);
  CHECK(t.place == Place::pinned);
  CHECK(t.describe() == "bf16[2,3,4]");
  CHECK(Tensor(data.data(), DType::u16, {24}).row_size() == 1);
  CHECK(Tensor(nullptr, DType::f32, {0, 5}).numel() == 0);
  CHECK(Tensor(nullptr, DType::f32, {0, 5}).defined());
}

TEST_CASE("rows and reshape view the same memory") {
  std::vector<float> data(12);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  const Tensor t(data.data(), DType::f32, {4, 3});
  const Tensor middle = t.rows(1, 3);
  CHECK(middle.describe() == "f32[2,3]");
  CHECK(middle.as<float>() == data.data() + 3);
  CHECK(middle.reshape({3, 2}).as<float>()[5] == 8);
  CHECK(middle.flat().describe() == "f32[6]");
  CHECK(t.rows(4, 4).numel() == 0);
  CHECK(t.rows(0, 4).as<float>() == data.data());
  CHECK(t.rows(2, 4).rows(1, 2).as<float>()[0] == 9);
}

TEST_CASE("a dry tensor stays dry through views") {
  const Tensor t(nullptr, DType::f32, {4, 3});
  CHECK(t.rows(1, 3).dry());
  CHECK(t.rows(1, 3).bytes() == 24);
  CHECK(t.reshape({2, 6}).dry());
}

TEST_CASE("views outside the tensor are our mistake") {
  std::vector<float> data(12);
  const Tensor t(data.data(), DType::f32, {4, 3});
  CHECK_THROWS_AS(t.rows(-1, 2), InternalError);
  CHECK_THROWS_AS(t.rows(2, 1), InternalError);
  CHECK_THROWS_AS(t.rows(0, 5), InternalError);
  CHECK_THROWS_AS(Tensor().rows(0, 0), InternalError);
  CHECK_THROWS_AS(t.reshape({5, 2}), InternalError);
  CHECK_THROWS_AS(t.reshape({}), InternalError);
  CHECK_THROWS_AS(Tensor(nullptr, DType::f32, {1, 1, 1, 1, 1, 1}), InternalError);
  CHECK_THROWS_AS(Tensor(nullptr, DType::f32, {2, -1}), InternalError);
}

TEST_CASE("a tensor is read as its own dtype only") {
  std::vector<float> data(2);
  const Tensor t(data.data(), DType::f32, {2});
  CHECK(t.as<float>() == data.data());
  CHECK_THROWS_AS(t.as<double>(), InternalError);
  CHECK_THROWS_AS(t.as<int32_t>(), InternalError);
}
