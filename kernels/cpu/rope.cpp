// Rotary position embedding (Su et al., arXiv 2104.09864), half rotation. The angles of a position serve that
// position's rows of all sequences and heads. Every kPiece positions they are computed from scratch, in double; from
// one position to the next they are turned by one step, in double too: 32 turns err by some 1e-14, far below what f32
// shows.
#include <cmath>

#include "kernels/cpu/families.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace trident::cpu {
namespace {

constexpr int64_t kMaxPairs = 512;
constexpr int64_t kPiece = 32;  // positions

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

/// Cosine and sine of each pair's angle.
struct Angles {
  double cosine[kMaxPairs], sine[kMaxPairs];

  void set(const double* frequency, int64_t half, double position) {
    for (int64_t i = 0; i < half; ++i) {
      cosine[i] = std::cos(position * frequency[i]);
      sine[i] = std::sin(position * frequency[i]);
    }
  }
  void turn(const Angles& by, int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
      const double c = cosine[i], s = sine[i];
      cosine[i] = c * by.cosine[i] - s * by.sine[i];
      sine[i] = s * by.cosine[i] + c * by.sine[i];
    }
  }
};

}  // namespace

void rope(const RopeArgs& args) {
  const int64_t rows = args.qkv.dim[0], stride = args.qkv.row_size(), half = args.head_size / 2;
  const int64_t positions = std::min(args.context, rows);
  ensure(half <= kMaxPairs, "rope: the head size is at most 1024");
  double frequency[kMaxPairs];
  for (int64_t i = 0; i < half; ++i) {
    frequency[i] = std::pow(args.theta, -2.0 * static_cast<double>(i) / static_cast<double>(args.head_size));
    if (args.inverse) frequency[i] = -frequency[i];
  }
  Angles step;
  step.set(frequency, half, 1.0);
  with_float(args.qkv.dtype, [&](auto tag) {
    using T = TypeOf<decltype(tag)>;
    T* qkv = args.qkv.as<T>();
    parallel_range(ceil_div(positions, kPiece), args.qkv.numel(), [&](int64_t begin, int64_t end) {
      Angles angles;
      float cosine[kMaxPairs], sine[kMaxPairs];
      for (int64_t position = begin * kPiece; position < std::min(end * kPiece, positions); ++position) {
        if (position % kPiece == 0) angles.set(frequency, half, static_cast<double>(position));
        for (int64_t i = 0; i < half; ++i) {
          cosine[i] = static_cast<float>(angles.cosine[i]);
          sine[i] = static_cast<float>(angles.sine[i]);
        }
        for (int64_t row = position; row < rows; row += args.context) {
          for (int64_t h = 0; h < args.heads; ++h) rotate(qkv + row * stride + h * args.head_size, half, cosine, sine);
        }
        angles.turn(step, half);
      }
    });
  });
}

}  // namespace trident::cpu
