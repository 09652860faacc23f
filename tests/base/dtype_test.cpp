#include "core/base/dtype.h"

#include <limits>

#include "support/catch.h"

using namespace trident;

namespace {

/// The pattern of the nearest T to x, found without T's own rounding: of the two neighbours that enclose x, the nearer,
/// and of two equally near the one with an even pattern. Positive finite x below the largest T.
template <class T>
uint16_t nearest_even(double x) {
  const auto value = [](uint32_t bits) {
    T t;
    t.bits = static_cast<uint16_t>(bits);
    return static_cast<double>(static_cast<float>(t));
  };
  uint32_t low = 0, high = 0x7f7f;
  if constexpr (std::is_same_v<T, f16>) high = 0x7bff;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (value(middle) <= x ? low : high) = middle;
  }
  const double below = x - value(low), above = value(high) - x;
  if (below == above) return static_cast<uint16_t>(low % 2 == 0 ? low : high);
  return static_cast<uint16_t>(below < above ? low : high);
}

template <class T>
int count_patterns_that_do_not_return() {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    T t;
    t.bits = static_cast<uint16_t>(bits);
    const float x = static_cast<float>(t);
    const T back(x);
    // NaN stays NaN, though its payload may become quiet.
    const bool same = std::isnan(x) ? std::isnan(static_cast<float>(back)) : back.bits == bits;
    wrong += same ? 0 : 1;
  }
  return wrong;
}

/// Rounds the float midpoints between neighbours, and their float neighbours, of every positive finite pattern.
template <class T>
int count_wrong_roundings(uint32_t end) {
  int wrong = 0;
  for (uint32_t bits = 0; bits + 1 < end; ++bits) {
    T low, high;
    low.bits = static_cast<uint16_t>(bits);
    high.bits = static_cast<uint16_t>(bits + 1);
    const float a = static_cast<float>(low), b = static_cast<float>(high), middle = a + (b - a) / 2;
    for (const float x : {middle, std::nextafter(middle, a), std::nextafter(middle, b)}) {
      wrong += T(x).bits == nearest_even<T>(static_cast<double>(x)) ? 0 : 1;
      wrong += T(-x).bits == (nearest_even<T>(static_cast<double>(x)) | 0x8000) ? 0 : 1;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("every 16-bit pattern returns from float") {
  CHECK(count_patterns_that_do_not_return<bf16>() == 0);
  CHECK(count_patterns_that_do_not_return<f16>() == 0);
}

TEST_CASE("bf16 and f16 round to nearest even at and beside every midpoint") {
  CHECK(count_wrong_roundings<bf16>(0x7f80) == 0);
  CHECK(count_wrong_roundings<f16>(0x7c00) == 0);
}

TEST_CASE("stochastic rounding goes up for as many words as bits are dropped") {
  for (const uint32_t upper : {0x0000u, 0x3f80u, 0x4049u, 0x7f7fu, 0x8000u, 0xbfffu}) {
    for (const uint32_t dropped : {0u, 1u, 0x1234u, 0x8000u, 0xffffu}) {
      uint32_t up = 0;
      for (uint32_t word = 0; word < 0x10000u; ++word) {
        const uint32_t bits = stochastic_bf16(upper << 16 | dropped, word << 16 | 0x5555u);
        REQUIRE((bits == upper || bits == upper + 1));
        up += bits == upper + 1;
      }
      CHECK(up == dropped);
    }
  }
  CHECK(stochastic_bf16(0x7f800000u, 0xffffffffu) == 0x7f80);
  CHECK(stochastic_bf16(0xff800000u, 0xffffffffu) == 0xff80);
  CHECK(stochastic_bf16(0x7f800001u, 0xffffffffu) == 0x7fc0);
  CHECK(stochastic_bf16(0xffffffffu, 0xffffffffu) == 0xffff);
}

TEST_CASE("overflow, infinity and NaN") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(bf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(f16(65519.0f).bits == 0x7bff);
  CHECK(f16(65520.0f).bits == 0x7c00);
  CHECK(bf16(-kInfinity).bits == 0xff80);
  CHECK(f16(-kInfinity).bits == 0xfc00);
  // A NaN whose payload lies in the lower half only must not become infinity.
  CHECK(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(std::isnan(static_cast<float>(f16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(bf16(-0.0f).bits == 0x8000);
}

TEST_CASE("dtype_epsilon is half an ulp at one") {
  // 1 + eps is a midpoint and rounds to the even 1; just above it rounds up.
  const auto bf = static_cast<float>(dtype_epsilon(DType::bf16)), half = static_cast<float>(dtype_epsilon(DType::f16));
  CHECK(bf16(1 + bf).bits == bf16(1.0f).bits);
  CHECK(bf16(std::nextafter(1 + bf, 2.0f)).bits == bf16(1.0f).bits + 1);
  CHECK(f16(1 + half).bits == f16(1.0f).bits);
  CHECK(f16(std::nextafter(1 + half, 2.0f)).bits == f16(1.0f).bits + 1);
  CHECK(2 * dtype_epsilon(DType::f32) == static_cast<double>(std::numeric_limits<float>::epsilon()));
  CHECK(2 * dtype_epsilon(DType::f64) == std::numeric_limits<double>::epsilon());
  CHECK(dtype_epsilon(DType::i32) == 0);
}

TEST_CASE("names, sizes and C++ types agree") {
  CHECK(dtype_name(DType::f32) == "f32");
  CHECK(dtype_name(DType::bf16) == "bf16");
  CHECK(dtype_name(DType::f16) == "f16");
  CHECK(dtype_name(DType::f64) == "f64");
  CHECK(dtype_name(DType::i32) == "i32");
  CHECK(dtype_name(DType::i64) == "i64");
  CHECK(dtype_name(DType::u8) == "u8");
  CHECK(dtype_name(DType::u16) == "u16");
  CHECK(dtype_bytes(DTypeOf<float>::value) == sizeof(float));
  CHECK(dtype_bytes(DTypeOf<double>::value) == sizeof(double));
  CHECK(dtype_bytes(DTypeOf<bf16>::value) == sizeof(bf16));
  CHECK(dtype_bytes(DTypeOf<f16>::value) == sizeof(f16));
  CHECK(dtype_bytes(DTypeOf<int32_t>::value) == sizeof(int32_t));
  CHECK(dtype_bytes(DTypeOf<int64_t>::value) == sizeof(int64_t));
  CHECK(dtype_bytes(DTypeOf<uint8_t>::value) == sizeof(uint8_t));
  CHECK(dtype_bytes(DTypeOf<uint16_t>::value) == sizeof(uint16_t));
}
