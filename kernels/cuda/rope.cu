// Rotary position embedding (Su et al., arXiv 2104.09864), half rotation, in place: one pass, a warp a row.
//
// A thread keeps the cosines and sines of its pack of pairs in registers and turns all heads by them. The angle is
// counted in turns and in double, where a position times a frequency loses nothing that counts; what is left after
// whole quarter turns lies within pi/4, where short polynomials in f32 are exact to a rounding. So there is no slow
// path for large angles, and the same bits come out everywhere.
//
// Legend: K head size; pair i of a head is its elements i and i + K/2.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kMaxPairs = 512;

struct Heads {
  int64_t context, stride;  ///< stride: elements of a row
  int heads, pairs;         ///< pairs: K/2
  double log2_theta;
  float direction;  ///< -1 turns back
};

/// Cosine and sine of `turns` whole turns. Taylor polynomials on [-pi/4, pi/4]: the first terms left out, x^12/12! and
/// x^11/11!, are below 2e-9 there.
SIMT_DEV void cos_sin(double turns, float& cosine, float& sine) {
  const double quarters = rint(4 * turns);
  const float x = static_cast<float>((turns - 0.25 * quarters) * 6.283185307179586477);
  const float s = x * x;
  const float c_x = 1 + s * (-0.5f + s * (1.0f / 24 + s * (-1.0f / 720 + s * (1.0f / 40320 + s * (-1.0f / 3628800)))));
  const float s_x = x + x * s * (-1.0f / 6 + s * (1.0f / 120 + s * (-1.0f / 5040 + s * (1.0f / 362880))));
  const int quadrant = static_cast<int>(static_cast<int64_t>(quarters) & 3);
  const float c = quadrant % 2 == 0 ? c_x : s_x, d = quadrant % 2 == 0 ? s_x : c_x;
  cosine = quadrant == 1 || quadrant == 2 ? -c : c;
  sine = quadrant >= 2 ? -d : d;
}

/// Turns one pack of pairs of every `step`-th head from `head` on.
template <class T, int kWidth>
SIMT_DEV void turn_heads(T* row, const Heads& h, int pair, int head, int step, const float (&cosine)[kWidth],
                         const float (&sine)[kWidth]) {
#pragma unroll 2
  for (; head < h.heads; head += step) {
    T* low_at = row + static_cast<int64_t>(head) * 2 * h.pairs + pair;
    T* high_at = low_at + h.pairs;
    Pack<T, kWidth> low = Pack<T, kWidth>::load(low_at), high = Pack<T, kWidth>::load(high_at);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const float a = low.value[j], b = high.value[j];
      low.value[j] = a * cosine[j] - b * sine[j];
      high.value[j] = b * cosine[j] + a * sine[j];
    }
    low.store(low_at);
    high.store(high_at);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_kernel(T* qkv, int64_t rows, Heads h) {
  // Turns of pair i per position, theta^(-2i/K) / 2 pi. Pair j of every pack lies together: lanes read neighbours.
  __shared__ double turns[kMaxPairs];
  const int packs = h.pairs / kWidth;
  for (int slot = static_cast<int>(threadIdx.x); slot < h.pairs; slot += kThreads) {
    const int i = slot % packs * kWidth + slot / packs;
    turns[slot] = exp2(-h.log2_theta * i / h.pairs) * 0.15915494309189533577;
  }
  __syncthreads();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const auto position = static_cast<double>(row % h.context);
  // Short heads: a warp turns several at once, and the lanes that are left over rest.
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int together = packs < 32 ? 32 / packs : 1, head = packs < 32 ? lane / packs : 0;
  if (head >= together) return;
  for (int pack = packs < 32 ? lane % packs : lane; pack < packs; pack += 32) {
    float cosine[kWidth], sine[kWidth];
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      cos_sin(position * turns[j * packs + pack], cosine[j], sine[j]);
      sine[j] *= h.direction;
    }
    turn_heads<T, kWidth>(qkv + row * h.stride, h, pack * kWidth, head, together, cosine, sine);
  }
}

}  // namespace

void rope(cudaStream_t stream, const RopeArgs& args) {
  const int64_t rows = args.qkv.dim[0], pairs = args.head_size / 2;
  if (args.qkv.numel() == 0 || args.heads == 0) return;
  ensure(pairs <= kMaxPairs, "rope: the head size is at most 1024");
  const Heads heads{.context = args.context,
                    .stride = args.qkv.dim[1],
                    .heads = static_cast<int>(args.heads),
                    .pairs = static_cast<int>(pairs),
                    .log2_theta = std::log2(args.theta),
                    .direction = args.inverse ? -1.0f : 1.0f};
  with_float(args.qkv.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int kWidth = kPerVector<T>;
    const bool wide = vectorizable(args.qkv, args.qkv.dim[1]) && pairs % kWidth == 0;
    check_launch(simt::launch(wide ? rope_kernel<T, kWidth> : rope_kernel<T, 1>,
                              dim3(static_cast<unsigned>(ceil_div(rows, kWarps))), dim3(kThreads), 0, stream,
                              at<T>(args.qkv), rows, heads),
                 "rope");
  });
}

}  // namespace trident::cuda
