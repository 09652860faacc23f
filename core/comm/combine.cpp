#include "core/comm/combine.h"

#include <algorithm>

#include "core/base/error.h"

namespace trident {
namespace {

template <class T, class Sum, class Op>
void combine_as(std::byte* out_bytes, std::span<const std::byte* const> pieces, int64_t count, Op op) {
  // The accumulators of one block stay in the first-level cache while every piece passes over them.
  constexpr int64_t kBlock = 1024;
  Sum sum[kBlock];
  T* const out = reinterpret_cast<T*>(out_bytes);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* const first = reinterpret_cast<const T*>(pieces[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Sum>(first[i]);
    for (const std::byte* piece : pieces.subspan(1)) {
      const T* const x = reinterpret_cast<const T*>(piece) + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] = op(sum[i], static_cast<Sum>(x[i]));
    }
    for (int64_t i = 0; i < n; ++i) out[begin + i] = static_cast<T>(sum[i]);
  }
}

template <class T, class Sum>
void combine(Reduce reduce, std::byte* out, std::span<const std::byte* const> pieces, int64_t count) {
  if (reduce == Reduce::sum) {
    combine_as<T, Sum>(out, pieces, count, [](Sum a, Sum b) { return a + b; });
  } else {
    // Once NaN, always NaN: a reduction that lost one would hide a diverged rank.
    combine_as<T, Sum>(out, pieces, count, [](Sum a, Sum b) { return b > a || b != b ? b : a; });
  }
}

}  // namespace

void combine_pieces(DType dtype, Reduce reduce, std::byte* out, std::span<const std::byte* const> pieces,
                    int64_t count) {
  switch (dtype) {
    case DType::f32: return combine<float, float>(reduce, out, pieces, count);
    case DType::bf16: return combine<bf16, float>(reduce, out, pieces, count);
    case DType::f16: return combine<f16, float>(reduce, out, pieces, count);
    case DType::f64: return combine<double, double>(reduce, out, pieces, count);
    case DType::i64: return combine<int64_t, int64_t>(reduce, out, pieces, count);
    default: ensure(false, "reductions know f32, bf16, f16, f64 and i64");
  }
}

}  // namespace trident
