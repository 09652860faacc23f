// Elementwise operations: one pass over memory, 16 bytes a thread where addresses and lengths allow.
#include "kernels/cuda/element.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 256;

/// y[i] = x[i] * factor; any two float types. Each thread handles kPerThread consecutive elements.
template <class Y, class X, int kPerThread>
__global__ void __launch_bounds__(kThreads) scale_kernel(Y* y, const X* x, int64_t n, float factor) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (i >= n) return;
  if (i + kPerThread <= n) {
    Pack<X, kPerThread> in = Pack<X, kPerThread>::load(x + i);
    Pack<Y, kPerThread> out;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) out.value[j] = in.value[j] * factor;
    out.store(y + i);
  } else {
    for (int64_t j = i; j < n; ++j) y[j] = from_float<Y>(to_float(x[j]) * factor);
  }
}

}  // namespace

void scale(cudaStream_t stream, Tensor y, Tensor x, float factor) {
  const int64_t n = y.numel();
  if (n == 0) return;
  with_float(y.dtype, [&](auto y_tag) {
    with_float(x.dtype, [&](auto x_tag) {
      using Y = typename decltype(y_tag)::type;
      using X = typename decltype(x_tag)::type;
      const auto run = [&](auto kernel, int per_thread) {
        const dim3 grid(static_cast<unsigned>(ceil_div(n, int64_t{kThreads} * per_thread)));
        check_launch(simt::launch(kernel, grid, dim3(kThreads), 0, stream, at<Y>(y), at<const X>(x), n, factor),
                     "scale");
      };
      if (vectorizable(y, 8) && vectorizable(x, 8)) {
        run(scale_kernel<Y, X, 8>, 8);
      } else {
        run(scale_kernel<Y, X, 1>, 1);
      }
    });
  });
}

}  // namespace trident::cuda
