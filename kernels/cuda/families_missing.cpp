// Weak stand-ins for families that are not written yet; gone when all are.
#include "core/base/error.h"
#include "kernels/cuda/families.h"
namespace trident::cuda {
#define MISSING(...) \
  __attribute__((weak)) __VA_ARGS__ { throw InternalError("not written yet"); }
#define MISSING_SIZE(...) \
  __attribute__((weak)) __VA_ARGS__ { return 0; }
MISSING(void norm_forward(cudaStream_t, const NormArgs&))
MISSING(void norm_backward(cudaStream_t, const NormBackwardArgs&))
MISSING_SIZE(size_t norm_scratch_bytes(const NormBackwardArgs&))
MISSING(void rope(cudaStream_t, const RopeArgs&))
MISSING(void attention_forward(cudaStream_t, const AttentionArgs&))
MISSING(void attention_backward(cudaStream_t, const AttentionBackwardArgs&))
MISSING_SIZE(size_t attention_scratch_bytes(const AttentionArgs&))
MISSING_SIZE(size_t attention_scratch_bytes(const AttentionBackwardArgs&))
MISSING(void activation_forward(cudaStream_t, ActivationKind, Tensor, Tensor))
MISSING(void activation_backward(cudaStream_t, ActivationKind, Tensor, Tensor, Tensor))
MISSING(void dropout_add(cudaStream_t, Tensor, Tensor, Tensor, const DropoutSpec&))
MISSING(void bias_backward(cudaStream_t, Tensor, Tensor, Tensor))
MISSING_SIZE(size_t bias_scratch_bytes(int64_t, int64_t))
MISSING(void bias_add(cudaStream_t, Tensor, Tensor))
MISSING(void add(cudaStream_t, Tensor, Tensor))
MISSING(void scale(cudaStream_t, Tensor, Tensor, float))
MISSING(void embedding_forward(cudaStream_t, Tensor, Tensor, Tensor, int64_t))
MISSING(void embedding_backward(cudaStream_t, Tensor, Tensor, Tensor, int64_t, Tensor))
MISSING_SIZE(size_t embedding_scratch_bytes(int64_t, int64_t))
MISSING(void position_forward(cudaStream_t, Tensor, Tensor, int64_t, int64_t))
MISSING(void position_backward(cudaStream_t, Tensor, Tensor, int64_t, int64_t))
MISSING(void softmax_max(cudaStream_t, Tensor, Tensor, int64_t))
MISSING(void softmax_sum(cudaStream_t, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t, int64_t))
MISSING(void softmax_loss(cudaStream_t, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t, int64_t, bool))
MISSING(void adamw(cudaStream_t, const AdamWArgs&))
MISSING(void sum_squares(cudaStream_t, Tensor, Tensor, Tensor))
MISSING(void sum(cudaStream_t, Tensor, Tensor, Tensor))
}  // namespace trident::cuda
