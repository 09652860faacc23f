// The CUDA table on the whole case list, executed by the SIMT emulator.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "core/base/error.h"
#include "kernels/cases.h"
#include "kernels/compare.h"
#include "kernels/cuda/cuda_ops.h"
#include "support/catch.h"

using namespace trident;
using namespace trident::cases;

namespace {

void require(cudaError_t error) {
  if (error != cudaSuccess) throw RunError(cudaGetErrorString(error));
}

class CudaRoom final : public Room {
 public:
  CudaRoom() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaRoom() override { (void)cudaStreamDestroy(stream_); }

  char* alloc(size_t bytes) override {
    void* address = nullptr;
    require(cudaMalloc(&address, bytes));
    blocks_.push_back(address);
    return static_cast<char*>(address);
  }
  void release_all() override {
    require(cudaStreamSynchronize(stream_));
    for (void* block : blocks_) require(cudaFree(block));
    blocks_.clear();
  }
  void upload(char* to, const std::vector<char>& from) override {
    require(cudaMemcpyAsync(to, from.data(), from.size(), cudaMemcpyHostToDevice, stream_));
    require(cudaStreamSynchronize(stream_));
  }
  std::vector<char> download(const char* from, size_t bytes) override {
    std::vector<char> to(bytes);
    require(cudaMemcpyAsync(to.data(), from, bytes, cudaMemcpyDeviceToHost, stream_));
    require(cudaStreamSynchronize(stream_));
    return to;
  }
  Place place() const override { return Place::device; }
  Stream stream() const override { return {stream_}; }

 private:
  cudaStream_t stream_ = nullptr;
  std::vector<void*> blocks_;
};

void run_family(const std::vector<Case>& family) {
  const std::unique_ptr<Ops> ops = make_cuda_ops();
  CudaRoom room;
  const char* only = std::getenv("TRIDENT_CASE");
  for (const Case& c : family) {
    if (only != nullptr && c.name.find(only) == std::string::npos) continue;
    std::string wrong;
    try {
      wrong = join_lines(compare(*ops, c, room));
    } catch (const std::exception& e) {
      wrong = c.name + ": " + e.what();
    }
    INFO(wrong);
    CHECK(wrong.empty());
  }
}

}  // namespace

TEST_CASE("cuda: gemm", "[gemm]") { run_family(gemm_cases()); }
TEST_CASE("cuda: norm", "[norm]") { run_family(norm_cases()); }
TEST_CASE("cuda: rope", "[rope]") { run_family(rope_cases()); }
TEST_CASE("cuda: attention", "[attention]") { run_family(attention_cases()); }
TEST_CASE("cuda: activation", "[activation]") { run_family(activation_cases()); }
TEST_CASE("cuda: dropout", "[dropout]") { run_family(dropout_cases()); }
TEST_CASE("cuda: elementwise", "[elementwise]") { run_family(elementwise_cases()); }
TEST_CASE("cuda: embedding", "[embedding]") { run_family(embedding_cases()); }
TEST_CASE("cuda: loss", "[loss]") { run_family(loss_cases()); }
TEST_CASE("cuda: optimizer", "[optimizer]") { run_family(optimizer_cases()); }
TEST_CASE("cuda: step", "[step]") { run_family(step_cases()); }
