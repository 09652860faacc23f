// Attention by cuDNN: the seam behind which attention_cudnn.cpp (built with cudnn-frontend) or
// attention_cudnn_absent.cpp stands. Who is asked for which call: kernels/attention_kernel.h.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "kernels/attention_kernel.h"

namespace trident::cuda {

/// cuDNN's two graphs for one shape. Calls follow kernels/ops.h; their tensors are 16-byte aligned.
class CudnnPlan {
 public:
  virtual ~CudnnPlan() = default;

  virtual size_t forward_bytes() const = 0;
  virtual size_t backward_bytes() const = 0;
  /// Submit and return. `scratch` of the arguments holds the bytes above. Throw RunError with cuDNN's words.
  virtual void forward(cudaStream_t, const AttentionArgs&) = 0;
  virtual void backward(cudaStream_t, const AttentionBackwardArgs&) = 0;
};

class CudnnLibrary {
 public:
  virtual ~CudnnLibrary() = default;

  /// Builds the graphs for the shape of `args` (tensors may be dry); nullptr, and why, when there is no engine for
  /// them. Takes seconds; the result is for keeping. It must not outlive the library.
  virtual std::unique_ptr<CudnnPlan> plan(const AttentionArgs& args, std::string& refusal) = 0;
};

/// A GPU that need not be here, to plan for.
struct DescribedGpu {
  int compute_capability = 0;  ///< 90 for 9.0
  std::string json;            ///< CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION
};

/// For the calling thread's GPU. Nothing is started before the first plan.
std::unique_ptr<CudnnLibrary> make_cudnn();
/// For a described GPU: its plans do not run.
std::unique_ptr<CudnnLibrary> make_cudnn(const DescribedGpu&);

/// Version of cuDNN as linked: "9.19.0"; empty in a build without it.
std::string cudnn_version();

}  // namespace trident::cuda
