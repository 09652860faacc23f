// Element types and the two 16-bit floats. bf16 and f16 are storage: arithmetic happens in float.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trident {

enum class DType : uint8_t { f32, bf16, f16, f64, i32, i64, u8, u16 };

/// Bytes of one element.
constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::u8: return 1;
    case DType::bf16:
    case DType::f16:
    case DType::u16: return 2;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f64:
    case DType::i64: return 8;
  }
  return 0;
}

/// The name used in logs and plans: "f32", "bf16", ...
constexpr std::string_view dtype_name(DType t) {
  constexpr std::string_view kNames[] = {"f32", "bf16", "f16", "f64", "i32", "i64", "u8", "u16"};
  return kNames[static_cast<size_t>(t)];
}

/// Brain float: the upper half of an IEEE float. Rounds to nearest even; NaN stays NaN (quiet).
struct bf16 {
  uint16_t bits = 0;

  bf16() = default;
  explicit bf16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

/// The bits of the bf16 that a float (given as its bits) is rounded to at random: the neighbour of larger magnitude
/// when the 16 bits to be dropped and the upper 16 bits of `word` carry, which they do for just their share of all
/// words; else the other. A number that bf16 has stays itself, NaN stays NaN (quiet). Works on bits, for every device.
constexpr uint16_t stochastic_bf16(uint32_t float_bits, uint32_t word) {
  if ((float_bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((float_bits >> 16) | 0x40u);
  return static_cast<uint16_t>((float_bits + (word >> 16)) >> 16);
}

/// IEEE half, converted by the compiler's _Float16 (round to nearest even).
struct f16 {
  uint16_t bits = 0;

  f16() = default;
  explicit f16(float x) : bits(std::bit_cast<uint16_t>(static_cast<_Float16>(x))) {}
  explicit operator float() const { return static_cast<float>(std::bit_cast<_Float16>(bits)); }
};

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::u16;
};

/// The rounding unit of a float type (half an ulp at 1): what test tolerances are derived from.
constexpr double dtype_epsilon(DType t) {
  switch (t) {
    case DType::f64: return 0x1p-53;
    case DType::f32: return 0x1p-24;
    case DType::f16: return 0x1p-11;
    case DType::bf16: return 0x1p-8;
    default: return 0.0;
  }
}

}  // namespace trident
