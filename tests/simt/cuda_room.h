// Device memory for the cases of the op list, on a GPU or its emulation.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "core/base/error.h"
#include "kernels/compare.h"

namespace trident::cases {

class CudaRoom : public Room {
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
    if (cudaStreamSynchronize(stream_) != cudaSuccess) recover();
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
  Place place() const override { return Place::device; }
  Stream stream() const override { return {stream_}; }

 protected:
  /// Called by destructors when a kernel failed; its error has been thrown already.
  virtual void recover() {}

 private:
  static void require(cudaError_t error) {
    if (error != cudaSuccess) throw RunError(cudaGetErrorString(error));
  }

  cudaStream_t stream_ = nullptr;
  std::vector<void*> blocks_;
};

/// The room of this test program's device.
std::unique_ptr<Room> make_cuda_room();

}  // namespace trident::cases
