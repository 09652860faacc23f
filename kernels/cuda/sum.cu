// Sums of a whole tensor in double, in an order that depends on the length alone: neither dtype nor alignment changes
// which thread adds which element. Each block leaves a partial sum, and one block adds those.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kPack = 4;  // elements a thread takes at a time, whatever the dtype
constexpr int64_t kMaxBlocks = 1024;

template <bool kSquares>
SIMT_DEV double term(float x) {
  const double d = x;
  return kSquares ? d * d : d;
}

/// partial[b] = the sum of block b's elements: every gridDim.x-th run of 1024.
template <class T, bool kSquares, bool kWide>
__global__ void __launch_bounds__(kThreads) partial_sum_kernel(double* partial, const T* x, int64_t n) {
  __shared__ double shared[kWarps];
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kPack;
  int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPack;
  double sum = 0;
#pragma unroll 4
  for (; i + kPack <= n; i += step) {
    Pack<T, kPack> pack;
    if constexpr (kWide) {
      pack = Pack<T, kPack>::load(x + i);
    } else {
#pragma unroll
      for (int j = 0; j < kPack; ++j) pack.value[j] = to_float(x[i + j]);
    }
#pragma unroll
    for (int j = 0; j < kPack; ++j) sum += term<kSquares>(pack.value[j]);
  }
  for (; i < n; ++i) sum += term<kSquares>(to_float(x[i]));
  sum = block_sum<kThreads>(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) total_kernel(double* out, const double* partial, int count) {
  __shared__ double shared[kWarps];
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += partial[i];
  sum = block_sum<kThreads>(sum, shared);
  if (threadIdx.x == 0) *out = sum;
}

template <bool kSquares>
void total(cudaStream_t stream, const char* operation, Tensor out_1, Tensor x, Tensor scratch) {
  const int64_t n = x.numel();
  // At least four packs a thread; more blocks than kMaxBlocks would not fit on a device at once anyway.
  const int64_t blocks = std::clamp<int64_t>(ceil_div(n, 4 * kPack * kThreads), 1, kMaxBlocks);
  static_assert(kMaxBlocks * sizeof(double) <= kSumScratchBytes);
  ensure(scratch.defined() && scratch.bytes() >= kSumScratchBytes, "a total has its scratch");
  double* partial = blocks == 1 ? at<double>(out_1) : at<double>(scratch);
  with_float(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    check_launch(
        simt::launch(aligned(x) ? partial_sum_kernel<T, kSquares, true> : partial_sum_kernel<T, kSquares, false>,
                     dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, partial, at<const T>(x), n),
        operation);
  });
  if (blocks == 1) return;
  check_launch(simt::launch(total_kernel, dim3(1), dim3(kThreads), 0, stream, at<double>(out_1),
                            static_cast<const double*>(partial), static_cast<int>(blocks)),
               operation);
}

}  // namespace

void sum_squares(cudaStream_t stream, Tensor out_1, Tensor x, Tensor scratch) {
  total<true>(stream, "sum_squares", out_1, x, scratch);
}

void sum(cudaStream_t stream, Tensor out_1, Tensor x, Tensor scratch) {
  total<false>(stream, "sum", out_1, x, scratch);
}

}  // namespace trident::cuda
