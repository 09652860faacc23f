#include "core/checkpoint/convert.h"

#include <cstring>
#include <type_traits>
#include <utility>

#include "core/base/error.h"

namespace trident {

namespace {

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T>;

template <class Dst, class Src>
Dst convert_float(Src x) {
  if constexpr (std::is_same_v<Dst, double> || std::is_same_v<Dst, float>) {
    if constexpr (std::is_same_v<Src, double>) {
      return static_cast<Dst>(x);
    } else {
      return static_cast<Dst>(static_cast<float>(x));
    }
  } else {
    return Dst(static_cast<float>(x));
  }
}

template <class Dst, class Src>
void convert_all(void* dst, const void* src, int64_t n, const std::string& what) {
  auto* out = static_cast<char*>(dst);
  const auto* in = static_cast<const char*>(src);
  for (int64_t i = 0; i < n; ++i) {
    // A piece may start at any byte of a window: load and store by memcpy, which costs nothing where aligned.
    Src x;
    std::memcpy(&x, in + static_cast<size_t>(i) * sizeof(Src), sizeof(Src));
    Dst y;
    if constexpr (kIsInteger<Dst>) {
      if (!std::in_range<Dst>(x)) {
        throw UserError(
            build_string(what, ": the value ", +x, " does not fit the type ", dtype_name(DTypeOf<Dst>::value)));
      }
      y = static_cast<Dst>(x);
    } else {
      y = convert_float<Dst>(x);
    }
    std::memcpy(out + static_cast<size_t>(i) * sizeof(Dst), &y, sizeof(Dst));
  }
}

template <class Visit>
void visit_type(DType type, Visit visit) {
  switch (type) {
    case DType::f32: return visit(float{});
    case DType::bf16: return visit(bf16{});
    case DType::f16: return visit(f16{});
    case DType::f64: return visit(double{});
    case DType::i32: return visit(int32_t{});
    case DType::i64: return visit(int64_t{});
    case DType::u8: return visit(uint8_t{});
    case DType::u16: return visit(uint16_t{});
  }
}

}  // namespace

void convert_elements(DType dst_type, void* dst, DType src_type, const void* src, int64_t n, const std::string& what) {
  if (n == 0) return;
  if (dst_type == src_type) {
    std::memcpy(dst, src, static_cast<size_t>(n) * dtype_bytes(src_type));
    return;
  }
  visit_type(dst_type, [&](auto to) {
    visit_type(src_type, [&](auto from) {
      using Dst = decltype(to);
      using Src = decltype(from);
      if constexpr (kIsInteger<Dst> == kIsInteger<Src>) {
        convert_all<Dst, Src>(dst, src, n, what);
      } else {
        throw UserError(build_string(what, " is ", dtype_name(src_type), " and cannot be read as ",
                                     dtype_name(dst_type), ": integers and floats are not mixed"));
      }
    });
  });
}

}  // namespace trident
