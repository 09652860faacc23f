// Device memory for the cases of the op list, on the emulated GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "kernels/compare.h"
#include "kernels/simt/control.h"
#include "kernels/simt/options.h"
#include "kernels/simt/runtime.h"

namespace trident::cases {

class CudaRoom final : public Room {
 public:
  CudaRoom() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaRoom() override { (void)cudaStreamDestroy(stream_); }

  char* alloc(size_t bytes) override {
    void* address = nullptr;
    require(cudaMalloc(&address, std::max<size_t>(bytes, 1)));  // an empty tensor has an address too
    blocks_.push_back(address);
    return static_cast<char*>(address);
  }
  void release_all() override {
    // Called by destructors. A kernel at fault has been reported and its error thrown: what follows works again.
    if (cudaStreamSynchronize(stream_) != cudaSuccess) simt::reset_context_error();
    for (void* block : blocks_) (void)cudaFree(block);
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
  /// The checked emulator reports a kernel's reads and writes outside an allocation.
  size_t zone() const override { return simt::checked ? 0 : Room::zone(); }
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
