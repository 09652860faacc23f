#include "core/comm/combine.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "support/catch.h"

using namespace trident;

namespace {

template <class T>
std::vector<T> combined(Reduce reduce, const std::vector<std::vector<T>>& pieces) {
  std::vector<const std::byte*> addresses;
  for (const auto& piece : pieces) addresses.push_back(reinterpret_cast<const std::byte*>(piece.data()));
  std::vector<T> out(pieces[0].size());
  combine_pieces(DTypeOf<T>::value, reduce, reinterpret_cast<std::byte*>(out.data()), addresses, out.size());
  return out;
}

}  // namespace

TEST_CASE("sums go in rank order", "[ranks=1]") {
  // (1e8 + 1) - 1e8 in f32 is 0, 1e8 - 1e8 + 1 is 1.
  CHECK(combined<float>(Reduce::sum, {{1e8f}, {1.0f}, {-1e8f}})[0] == 0.0f);
  CHECK(combined<float>(Reduce::sum, {{1e8f}, {-1e8f}, {1.0f}})[0] == 1.0f);
}

TEST_CASE("16-bit sums round once", "[ranks=1]") {
  // 1 + 4 * 2^-9 is 1 + 2^-7, a bf16; rounding each sum would stay at 1.
  const bf16 small(0x1p-9f);
  CHECK(combined<bf16>(Reduce::sum, {{bf16(1.0f)}, {small}, {small}, {small}, {small}})[0].bits ==
        bf16(1.0078125f).bits);
  const f16 tiny(0x1p-12f);
  CHECK(combined<f16>(Reduce::sum, {{f16(1.0f)}, {tiny}, {tiny}, {tiny}, {tiny}})[0].bits == f16(1.0009765625f).bits);
}

TEST_CASE("i64 sums are exact and f64 sums are f64", "[ranks=1]") {
  const int64_t big = (int64_t{1} << 60) + 1;
  CHECK(combined<int64_t>(Reduce::sum, {{big}, {2}})[0] == big + 2);
  CHECK(combined<double>(Reduce::sum, {{1.0}, {0x1p-50}})[0] == 1.0 + 0x1p-50);
}

TEST_CASE("a maximum keeps NaN from any rank", "[ranks=1]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto out = combined<float>(Reduce::max, {{1, nan, 1, -3}, {2, 5, nan, -4}});
  CHECK(out[0] == 2);
  CHECK(std::isnan(out[1]));
  CHECK(std::isnan(out[2]));
  CHECK(out[3] == -3);
}

TEST_CASE("the output may be one of the pieces", "[ranks=1]") {
  std::vector<float> a(3001), b(3001);
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i);
    b[i] = 2 * static_cast<float>(i);
  }
  const std::byte* const pieces[] = {reinterpret_cast<std::byte*>(a.data()), reinterpret_cast<std::byte*>(b.data())};
  combine_pieces(DType::f32, Reduce::sum, reinterpret_cast<std::byte*>(b.data()), pieces, 3001);
  for (size_t i = 0; i < b.size(); ++i) REQUIRE(b[i] == 3 * static_cast<float>(i));
}

TEST_CASE("an element's sum does not depend on its place", "[ranks=1]") {
  // Long runs go by blocks of vectors, what is left one by one. Denormals of both signs too, which vectors may lose.
  constexpr int64_t kCount = 300;
  std::vector<std::vector<bf16>> pieces(3, std::vector<bf16>(kCount));
  for (int64_t i = 0; i < kCount; ++i) {
    for (size_t p = 0; p < pieces.size(); ++p) {
      pieces[p][i].bits = static_cast<uint16_t>((i * 7919 + static_cast<int64_t>(p) * 104729) % 0x7f80 / (i % 2 + 1) |
                                                (i % 3 == 0 ? 0x8000 : 0));
      if (i % 5 == 0) pieces[p][i].bits &= 0x80ff;
    }
  }
  for (const Reduce reduce : {Reduce::sum, Reduce::max}) {
    const auto together = combined<bf16>(reduce, pieces);
    for (int64_t i = 0; i < kCount; ++i) {
      const auto alone = combined<bf16>(reduce, {{pieces[0][i]}, {pieces[1][i]}, {pieces[2][i]}});
      INFO("element " << i << " of " << kCount);
      REQUIRE(together[i].bits == alone[0].bits);
    }
  }
}

TEST_CASE("dtypes without a sum are refused", "[ranks=1]") {
  std::byte x[8] = {};
  const std::byte* const pieces[] = {x};
  for (const DType dtype : {DType::u8, DType::u16, DType::i32}) {
    CHECK_THROWS_AS(combine_pieces(dtype, Reduce::sum, x, pieces, 1), InternalError);
  }
}
