// The emulator without streams, for its own tests: memory and launches that run at once.
#pragma once

#include <string>
#include <vector>

#include "kernels/simt/emulation.h"
#include "kernels/simt/runtime.h"

namespace trident {

/// An open device for one test: operations are ordered as they run, options are the defaults, memory is freed at the
/// end.
class Emulated {
 public:
  Emulated() : ordered_(simt::ops_ordered), options_(simt::opt) {
    simt::ops_ordered = nullptr;
    simt::opt = {};
    simt::dev_expose(true);
  }
  ~Emulated() {
    for (void* p : blocks_) simt::dev_free(p);
    simt::ops_ordered = ordered_;
    simt::opt = options_;
  }
  Emulated(const Emulated&) = delete;
  Emulated& operator=(const Emulated&) = delete;

  template <class T>
  T* uninitialised(size_t n) {
    blocks_.push_back(simt::dev_alloc(n * sizeof(T)));
    return static_cast<T*>(blocks_.back());
  }
  template <class T>
  T* upload(const std::vector<T>& values) {
    T* p = uninitialised<T>(values.size());
    for (size_t i = 0; i < values.size(); ++i) p[i] = values[i];
    simt::dev_mark_init(p, values.size() * sizeof(T));
    return p;
  }
  /// 0, 1, 2, ...
  template <class T>
  T* numbers(size_t n) {
    std::vector<T> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = static_cast<T>(static_cast<float>(i));
    return upload(values);
  }
  template <class T>
  static std::vector<T> download(const T* p, size_t n) {
    return std::vector<T>(p, p + n);
  }

  template <class... P, class... A>
  static void run(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A&&... args) {
    simt::run_grid(simt::make_launch(kernel, grid, block, smem, std::forward<A>(args)...));
  }
  /// What the launch is reported for; empty when it runs through.
  template <class... P, class... A>
  static std::string report(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, A&&... args) {
    try {
      run(kernel, grid, block, smem, std::forward<A>(args)...);
      return "";
    } catch (const simt::Error& error) {
      return error.msg;
    }
  }

 private:
  bool (*ordered_)(uint64_t, uint64_t);
  simt::Options options_;
  std::vector<void*> blocks_;
};

}  // namespace trident
