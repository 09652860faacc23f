// Sends each attention call to cuDNN or to our own kernels (families.h), as kernels/attention_kernel.h chooses.
//
// Policy: a shape is looked at once, when its scratch is asked for at the latest, and what was chosen is kept. cuDNN
// wants 16-byte aligned tensors, which are known only when a call runs: others go to our own kernels. Whatever lies in
// an arena is aligned.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "kernels/attention_kernel.h"
#include "kernels/cuda/attention_cudnn.h"

namespace trident::cuda {

/// Thread-safe. One object serves one device.
class AttentionDispatch {
 public:
  AttentionDispatch(AttentionKernel wanted, std::unique_ptr<CudnnLibrary> library)
      : wanted_(wanted), library_(std::move(library)) {}

  void forward(cudaStream_t, const AttentionArgs&) const;
  void backward(cudaStream_t, const AttentionBackwardArgs&) const;
  size_t scratch_bytes(const AttentionArgs&) const;
  size_t scratch_bytes(const AttentionBackwardArgs&) const;
  /// Throws UserError when cuDNN is wanted and can't take the shape; so do all of the above.
  AttentionChoice choose(const AttentionArgs&) const;

 private:
  /// What a graph of cuDNN is built for: dtype, rows, context, heads, kv heads, head size, scale, causal; and whether
  /// the call drops, which changes the choice.
  using Shape = std::tuple<DType, int64_t, int64_t, int64_t, int64_t, int64_t, float, bool, bool>;
  struct Entry {
    AttentionChoice choice;
    std::unique_ptr<CudnnPlan> plan;  ///< when cuDNN is chosen
  };

  const Entry& find(const AttentionArgs&) const;

  const AttentionKernel wanted_;
  const std::unique_ptr<CudnnLibrary> library_;
  mutable std::mutex mutex_;
  mutable std::map<Shape, Entry> entries_;  // dies before library_, which its plans use
};

}  // namespace trident::cuda
