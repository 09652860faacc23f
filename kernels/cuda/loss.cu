// The three passes of vocabulary-parallel softmax cross-entropy: a block a row, 16 bytes a thread and step. The first
// two read the valid columns once; the third reads them and writes the gradient in their place, once.
//
// Legend: T tokens, V vocabulary columns on this rank, of which the first `valid` hold ids.
#include <limits>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/families.h"

namespace trident::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

/// Calls f(columns' pack, how many of it are valid) over the valid columns, this thread's share. The packs that hold
/// no padding come first, so that they need no test an element.
template <class T, int kWidth, class F>
SIMT_DEV void for_valid(const T* logit_V, int64_t valid, F f) {
  const int64_t whole = valid / kWidth * kWidth;
  int64_t column = static_cast<int64_t>(threadIdx.x) * kWidth;
#pragma unroll 4
  for (; column < whole; column += kThreads * kWidth) f(Pack<T, kWidth>::load(logit_V + column), kWidth);
  if (column < valid) f(Pack<T, kWidth>::load(logit_V + column), static_cast<int>(valid - column));
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    softmax_max_kernel(float* max_T, const T* logits_TV, int64_t width, int64_t valid) {
  __shared__ float shared[kWarps];
  const int64_t t = blockIdx.x;
  float largest = -std::numeric_limits<float>::infinity();
  for_valid<T, kWidth>(logits_TV + t * width, valid, [&](const Pack<T, kWidth>& logit, int count) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      if (j < count) largest = fmaxf(largest, logit.value[j]);
    }
  });
  largest = block_max<kThreads>(largest, shared);
  if (threadIdx.x == 0) max_T[t] = largest;
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    softmax_sum_kernel(float* sum_T, float* target_T, const T* logits_TV, const float* max_T, const int32_t* id_T,
                       int64_t width, int64_t first_id, int64_t valid) {
  __shared__ float shared[kWarps];
  const int64_t t = blockIdx.x;
  const float max = max_T[t];
  float sum = 0;
  for_valid<T, kWidth>(logits_TV + t * width, valid, [&](const Pack<T, kWidth>& logit, int count) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      if (j < count) sum += expf(logit.value[j] - max);
    }
  });
  sum = block_sum<kThreads>(sum, shared);
  if (threadIdx.x != 0) return;
  const int64_t id = id_T[t], column = id - first_id;
  const bool here = id >= 0 && column >= 0 && column < valid;
  sum_T[t] = sum;
  target_T[t] = here ? to_float(logits_TV[t * width + column]) - max : 0.0f;
}

SIMT_DEV float loss_of(int32_t id, float sum, float target) { return id < 0 ? 0.0f : logf(sum) - target; }

__global__ void __launch_bounds__(kThreads)
    loss_kernel(float* loss_T, const float* sum_T, const float* target_T, const int32_t* id_T, int64_t tokens) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (t < tokens) loss_T[t] = loss_of(id_T[t], sum_T[t], target_T[t]);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    loss_gradient_kernel(float* loss_T, T* logits_TV, const float* max_T, const float* sum_T, const float* target_T,
                         const int32_t* id_T, int64_t width, int64_t first_id, int64_t valid) {
  const int64_t t = blockIdx.x;
  const int32_t id = id_T[t];
  const float max = max_T[t], sum = sum_T[t], inverse = 1.0f / sum;
  if (threadIdx.x == 0) loss_T[t] = loss_of(id, sum, target_T[t]);
  T* logit_V = logits_TV + t * width;
  // An ignored row's gradient is 0, as a padding column's: neither is read.
  const int64_t end = id < 0 ? 0 : valid, target = int64_t{id} - first_id;
#pragma unroll 4
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * kWidth; column < width; column += kThreads * kWidth) {
    Pack<T, kWidth> out{};
    if (column < end) {
      out = Pack<T, kWidth>::load(logit_V + column);
      // In 32 bits, for the comparisons below are many: how much of the pack is valid, and which element is the target.
      const int count = end - column < kWidth ? static_cast<int>(end - column) : kWidth;
      const int hit = target >= column && target < column + kWidth ? static_cast<int>(target - column) : -1;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        const float p = expf(out.value[j] - max) * inverse - (j == hit ? 1.0f : 0.0f);
        out.value[j] = j < count ? p : 0.0f;
      }
    }
    out.store(logit_V + column);
  }
}

/// Calls f(TypeTag<T>, pack width as a constant) for the logits' type and alignment.
template <class F>
void with_logits(const Tensor& logits_TV, F f) {
  with_float(logits_TV.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (vectorizable(logits_TV, logits_TV.dim[1])) {
      f(tag, std::integral_constant<int, kPerVector<T>>{});
    } else {
      f(tag, std::integral_constant<int, 1>{});
    }
  });
}

}  // namespace

void softmax_max(cudaStream_t stream, Tensor max_T, Tensor logits_TV, int64_t valid) {
  const int64_t tokens = logits_TV.dim[0], width = logits_TV.dim[1];
  if (tokens == 0) return;
  with_logits(logits_TV, [&](auto tag, auto pack) {
    using T = typename decltype(tag)::type;
    check_launch(simt::launch(softmax_max_kernel<T, pack>, dim3(static_cast<unsigned>(tokens)), dim3(kThreads), 0,
                              stream, at<float>(max_T), at<const T>(logits_TV), width, valid),
                 "softmax_max");
  });
}

void softmax_sum(cudaStream_t stream, Tensor sum_T, Tensor target_T, Tensor logits_TV, Tensor max_T, Tensor id_T,
                 int64_t first_id, int64_t valid) {
  const int64_t tokens = logits_TV.dim[0], width = logits_TV.dim[1];
  if (tokens == 0) return;
  with_logits(logits_TV, [&](auto tag, auto pack) {
    using T = typename decltype(tag)::type;
    check_launch(simt::launch(softmax_sum_kernel<T, pack>, dim3(static_cast<unsigned>(tokens)), dim3(kThreads), 0,
                              stream, at<float>(sum_T), at<float>(target_T), at<const T>(logits_TV),
                              at<const float>(max_T), at<const int32_t>(id_T), width, first_id, valid),
                 "softmax_sum");
  });
}

void softmax_loss(cudaStream_t stream, Tensor loss_T, Tensor logits_TV, Tensor max_T, Tensor sum_T, Tensor target_T,
                  Tensor id_T, int64_t first_id, int64_t valid, bool gradient) {
  const int64_t tokens = logits_TV.dim[0], width = logits_TV.dim[1];
  if (tokens == 0) return;
  if (!gradient) {
    check_launch(simt::launch(loss_kernel, dim3(static_cast<unsigned>(ceil_div(tokens, kThreads))), dim3(kThreads), 0,
                              stream, at<float>(loss_T), at<const float>(sum_T), at<const float>(target_T),
                              at<const int32_t>(id_T), tokens),
                 "softmax_loss");
    return;
  }
  with_logits(logits_TV, [&](auto tag, auto pack) {
    using T = typename decltype(tag)::type;
    check_launch(
        simt::launch(loss_gradient_kernel<T, pack>, dim3(static_cast<unsigned>(tokens)), dim3(kThreads), 0, stream,
                     at<float>(loss_T), at<T>(logits_TV), at<const float>(max_T), at<const float>(sum_T),
                     at<const float>(target_T), at<const int32_t>(id_T), width, first_id, valid),
        "softmax_loss");
  });
}

}  // namespace trident::cuda
