// Rotary position embedding (Su et al., arXiv 2104.09864), half rotation. The angles of a position are computed once,
// in double, and serve that position's rows of all sequences and heads.
#include <cmath>

#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kMaxPairs = 512;

/// Turns one head in place.
template <class T>
void rotate(T* head, int64_t half, const float* cosine, const float* sine) {
  vector_steps(0, half, [&](int64_t i, auto lanes) {
    const VecF low = load(head + i, lanes), high = load(head + half + i, lanes);
    const VecF c = load(cosine + i, lanes), s = load(sine + i, lanes);
    store(head + i, low * c - high * s, lanes);
    store(head + half + i, high * c + low * s, lanes);
  });
}

}  // namespace

void rope(const RopeArgs& args) {
  const int64_t rows = args.qkv.dim[0], stride = args.qkv.row_size(), half = args.head_size / 2;
  ensure(half <= kMaxPairs, "rope: the head size is at most 1024");
  double frequency[kMaxPairs];
  for (int64_t i = 0; i < half; ++i) {
    frequency[i] = std::pow(args.theta, -2.0 * static_cast<double>(i) / static_cast<double>(args.head_size));
  }
  const double direction = args.inverse ? -1.0 : 1.0;
  with_float(args.qkv.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* qkv = args.qkv.as<T>();
    parallel_range(std::min(args.context, rows), args.qkv.numel(), [&](int64_t begin, int64_t end) {
      float cosine[kMaxPairs], sine[kMaxPairs];
      for (int64_t position = begin; position < end; ++position) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(position) * frequency[i];
          cosine[i] = static_cast<float>(std::cos(angle));
          sine[i] = static_cast<float>(direction * std::sin(angle));
        }
        for (int64_t row = position; row < rows; row += args.context) {
          for (int64_t h = 0; h < args.heads; ++h) rotate(qkv + row * stride + h * args.head_size, half, cosine, sine);
        }
      }
    });
  });
}

}  // namespace trident::cpu
