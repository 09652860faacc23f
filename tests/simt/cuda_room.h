// Device memory for the cases of the op list, on the emulated GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "core/base/error.h"
#include "kernels/compare.h"
#include "kernels/simt/options.h"

namespace trident::cases {

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

  // Aligned runs in the emulator's three orders of blocks, warps and lanes: equal bits, or a kernel depends on order.
  int repeats() const override { return 3; }
  void begin_run(int n) override {
    constexpr simt::Order kOrders[] = {simt::Order::Ascending, simt::Order::Descending, simt::Order::Random};
    simt::opt.order = kOrders[n % 3];
  }

 private:
  static void require(cudaError_t error) {
    if (error != cudaSuccess) throw RunError(cudaGetErrorString(error));
  }

  cudaStream_t stream_ = nullptr;
  std::vector<void*> blocks_;
};

}  // namespace trident::cases
