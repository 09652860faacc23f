#include "core/checkpoint/convert.h"

#include <cmath>
#include <limits>
#include <vector>

#include "checkpoint/support.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::test;

TEST_CASE("floats convert to the nearest value", "[convert]") {
  const std::vector<float> x = {0.0f, -0.0f, 1.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 65504.0f, INFINITY, -3.25f};
  std::vector<bf16> b(x.size());
  convert_elements(DType::bf16, b.data(), DType::f32, x.data(), static_cast<int64_t>(x.size()), "x");
  for (size_t i = 0; i < x.size(); ++i) CHECK(b[i].bits == bf16(x[i]).bits);
  CHECK(static_cast<float>(b[3]) == 1.0f);                // a tie goes to the even neighbour, below
  CHECK(static_cast<float>(b[4]) == 1.0f + 4 * 0x1p-8f);  // and above
  std::vector<double> d(x.size());
  convert_elements(DType::f64, d.data(), DType::bf16, b.data(), static_cast<int64_t>(x.size()), "x");
  for (size_t i = 0; i < x.size(); ++i) CHECK(d[i] == static_cast<double>(static_cast<float>(b[i])));
  std::vector<f16> h(x.size());
  convert_elements(DType::f16, h.data(), DType::f64, d.data(), static_cast<int64_t>(x.size()), "x");
  CHECK(static_cast<float>(h[7]) == -3.25f);
  const double fine = 0.1;
  float coarse = 0;
  convert_elements(DType::f32, &coarse, DType::f64, &fine, 1, "x");
  CHECK(coarse == 0.1f);
  const float nan = NAN;
  bf16 nan_b;
  convert_elements(DType::bf16, &nan_b, DType::f32, &nan, 1, "x");
  CHECK(std::isnan(static_cast<float>(nan_b)));
}

TEST_CASE("integers convert when they fit", "[convert]") {
  const int64_t fits[2] = {-2147483648LL, 2147483647LL};
  int32_t out[2] = {};
  convert_elements(DType::i32, out, DType::i64, fits, 2, "x");
  CHECK(out[0] == -2147483647 - 1);
  CHECK(out[1] == 2147483647);
  const int64_t large = 2147483648LL;
  CHECK(message_of<UserError>([&] { convert_elements(DType::i32, out, DType::i64, &large, 1, "tensor x"); }) ==
        "tensor x: the value 2147483648 does not fit the type i32");
  uint8_t byte = 0;
  const int32_t negative = -1;
  CHECK_THROWS_AS(convert_elements(DType::u8, &byte, DType::i32, &negative, 1, "x"), UserError);
}

TEST_CASE("integers and floats are not mixed", "[convert]") {
  float f = 0;
  const int32_t i = 1;
  CHECK(contains(message_of<UserError>([&] { convert_elements(DType::f32, &f, DType::i32, &i, 1, "tensor ids"); }),
                 "tensor ids is i32 and cannot be read as f32"));
}

TEST_CASE("unaligned elements are read as they are", "[convert]") {
  char buffer[17] = {};
  const double x[2] = {1.5, -7.0};
  std::memcpy(buffer + 1, x, 16);
  float out[2] = {};
  convert_elements(DType::f32, out, DType::f64, buffer + 1, 2, "x");
  CHECK(out[0] == 1.5f);
  CHECK(out[1] == -7.0f);
}
