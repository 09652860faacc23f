// What attention's backward needs of each query row, computed once: lse in units of log 2, and delta, the sum of
// dout * out, which it subtracts from every dp of the row.
//
// Tiles: 8 threads a row, consecutive rows of one head in consecutive groups: each reads whole 32-byte sectors, and
// what a block writes lies together.
#include "kernels/cuda/attention_call.h"
#include "kernels/cuda/element.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda::attention {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 8;

/// rows: B * H * P, in the order of `statistics`.
template <class T, int kPerThread>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(float* statistics, const T* dout, const T* out, const float* lse, int64_t rows, Geometry g) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kRowThreads;
  const int64_t head_of_all = row / g.padded;
  const int position = static_cast<int>(row % g.padded);
  const bool inside = row < rows && position < g.context;
  const int64_t token = head_of_all / g.heads * g.context + position;
  const int64_t offset = token * g.out_stride + head_of_all % g.heads * g.head_size;
  float sum = 0;
  for (int k = static_cast<int>(threadIdx.x) % kRowThreads * kPerThread; inside && k < g.head_size;
       k += kRowThreads * kPerThread) {
    const auto a = Pack<T, kPerThread>::load(dout + offset + k), b = Pack<T, kPerThread>::load(out + offset + k);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) sum += a.value[i] * b.value[i];
  }
#pragma unroll
  for (int distance = kRowThreads / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kWarp, sum, distance);
  if (row >= rows || threadIdx.x % kRowThreads != 0) return;
  float* to = statistics + head_of_all * 2 * g.padded + position;
  to[0] = inside ? lse[head_of_all * g.context + position] * kLog2E : INFINITY;
  to[g.padded] = sum;
}

}  // namespace

void row_statistics(cudaStream_t stream, float* statistics, const AttentionBackwardArgs& args, const Geometry& g) {
  const Tensor &dout = args.dout, &out = args.forward.out;
  const int64_t rows = g.sequences * g.heads * g.padded;
  with_float(out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool wide = vectorizable(dout, g.head_size) && vectorizable(out, g.head_size);
    const auto kernel = wide ? statistics_kernel<T, kPerVector<T>> : statistics_kernel<T, 1>;
    const dim3 grid(static_cast<unsigned>(ceil_div(rows * kRowThreads, kThreads)));
    check_launch(simt::launch(kernel, grid, dim3(kThreads), 0, stream, statistics, at<const T>(dout), at<const T>(out),
                              at<const float>(args.forward.lse), rows, g),
                 "attention_backward, row statistics");
  });
}

}  // namespace trident::cuda::attention
