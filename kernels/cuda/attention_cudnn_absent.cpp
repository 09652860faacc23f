// What a build without cuDNN, and the emulated device, link in place of attention_cudnn.cpp.
#include "kernels/cuda/attention_cudnn.h"

namespace trident::cuda {
namespace {

class NoCudnn final : public CudnnLibrary {
 public:
  std::unique_ptr<CudnnPlan> plan(const AttentionArgs&, std::string& refusal) override {
    refusal = "this binary was built without cuDNN";
    return nullptr;
  }
};

}  // namespace

std::unique_ptr<CudnnLibrary> make_cudnn() { return std::make_unique<NoCudnn>(); }
std::unique_ptr<CudnnLibrary> make_cudnn(const DescribedGpu&) { return std::make_unique<NoCudnn>(); }

std::string cudnn_version() { return ""; }

}  // namespace trident::cuda
