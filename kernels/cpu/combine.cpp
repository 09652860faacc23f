// Sums stay in registers while all pieces pass: one read of every piece, one write of the result.
#include "kernels/cpu/combine.h"

#include <cstring>

#include "core/base/error.h"
#include "kernels/cpu/families.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int kVectors = 4;

/// A block of elements of T as kVectors vectors of sums: its size, load and store, which round as the scalar types do.
template <class T>
struct Block {
  static constexpr int kLanes = sizeof(VecF) / sizeof(T), kSize = kVectors * kLanes;
  typedef T Vec __attribute__((vector_size(sizeof(VecF))));
  static void load(const T* p, Vec* v) {
    for (int i = 0; i < kVectors; ++i) {
      Vec x;  // a copy straight into v would keep v in memory
      std::memcpy(&x, p + i * kLanes, sizeof x);
      v[i] = x;
    }
  }
  static void store(T* p, const Vec* v) {
    for (int i = 0; i < kVectors; ++i) {
      const Vec x = v[i];
      std::memcpy(p + i * kLanes, &x, sizeof x);
    }
  }
};
template <>
struct Block<f16> {
  static constexpr int kSize = kVectors * kLanes;
  using Vec = VecF;
  static void load(const f16* p, Vec* v) {
    for (int i = 0; i < kVectors; ++i) v[i] = cpu::load(p + i * kLanes);
  }
  static void store(f16* p, const Vec* v) {
    for (int i = 0; i < kVectors; ++i) cpu::store(p + i * kLanes, v[i]);
  }
};
/// Even and odd elements apart: no element changes its lane. (Not simd.h's store: the instruction behind it loses
/// denormals, which the scalar tail would keep.)
template <>
struct Block<bf16> {
  static constexpr int kSize = kVectors * kLanes;
  using Vec = VecF;
  static void load(const bf16* p, Vec* v) {
    for (int i = 0; i < kVectors; i += 2) {
      VecU pair;
      std::memcpy(&pair, p + i * kLanes, sizeof pair);
      v[i] = (Vec)(pair << 16);
      v[i + 1] = (Vec)(pair & 0xffff0000u);
    }
  }
  static void store(bf16* p, const Vec* v) {
    for (int i = 0; i < kVectors; i += 2) {
      const VecU pair = (rounded(v[i]) >> 16) | (rounded(v[i + 1]) & 0xffff0000u);
      std::memcpy(static_cast<void*>(p + i * kLanes), &pair, sizeof pair);
    }
  }

 private:
  static VecU rounded(Vec v) {
    const VecU u = (VecU)v;
    return v != v ? u | 0x400000u : u + 0x7fffu + ((u >> 16) & 1u);
  }
};

struct Add {
  template <class V>
  V operator()(V a, V b) const {
    return a + b;
  }
};
struct Max {
  // Once NaN, always NaN: a reduction that lost one would hide a diverged rank.
  template <class V>
  V operator()(V a, V b) const {
    return ((b > a) | (b != b)) ? b : a;
  }
};

template <class T, class Sum, class Op>
void combine_as(std::byte* out_bytes, std::span<const std::byte* const> pieces, int64_t count, std::byte* copy_bytes,
                Op op) {
  T* const out = reinterpret_cast<T*>(out_bytes);
  T* const copy = reinterpret_cast<T*>(copy_bytes);
  const auto piece = [&](size_t i) { return reinterpret_cast<const T*>(pieces[i]); };
  int64_t at = 0;
  for (; at + Block<T>::kSize <= count; at += Block<T>::kSize) {
    typename Block<T>::Vec sum[kVectors], next[kVectors];
    Block<T>::load(piece(0) + at, sum);
    for (size_t i = 1; i < pieces.size(); ++i) {
      Block<T>::load(piece(i) + at, next);
      for (int v = 0; v < kVectors; ++v) sum[v] = op(sum[v], next[v]);
    }
    Block<T>::store(out + at, sum);
    if (copy == nullptr) continue;
    for (size_t line = 0; line < Block<T>::kSize * sizeof(T); line += 64) {
      __builtin_prefetch(reinterpret_cast<std::byte*>(copy + at) + kAskAheadBytes + line, 1);
    }
    Block<T>::store(copy + at, sum);
  }
  for (; at < count; ++at) {
    Sum sum = static_cast<Sum>(piece(0)[at]);
    for (size_t i = 1; i < pieces.size(); ++i) sum = op(sum, static_cast<Sum>(piece(i)[at]));
    out[at] = static_cast<T>(sum);
    if (copy != nullptr) copy[at] = out[at];
  }
}

template <class T, class Sum>
void combine_pieces(bool maximum, std::byte* out, std::span<const std::byte* const> pieces, int64_t count,
                    std::byte* copy) {
  maximum ? combine_as<T, Sum>(out, pieces, count, copy, Max{}) : combine_as<T, Sum>(out, pieces, count, copy, Add{});
}

}  // namespace

void combine(DType dtype, bool maximum, std::byte* out, std::span<const std::byte* const> pieces, int64_t count,
             std::byte* copy) {
  switch (dtype) {
    case DType::f32: return combine_pieces<float, float>(maximum, out, pieces, count, copy);
    case DType::bf16: return combine_pieces<bf16, float>(maximum, out, pieces, count, copy);
    case DType::f16: return combine_pieces<f16, float>(maximum, out, pieces, count, copy);
    case DType::f64: return combine_pieces<double, double>(maximum, out, pieces, count, copy);
    case DType::i64: return combine_pieces<int64_t, int64_t>(maximum, out, pieces, count, copy);
    default: ensure(false, "reductions know f32, bf16, f16, f64 and i64");
  }
}

}  // namespace trident::cpu
