// What the tests of the emulated runtime share: policies, checked calls, small buffers.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "core/base/error.h"
#include "kernels/simt/control.h"
#include "simt/zoo_kernels.h"
#include "support/catch.h"

namespace trident::testing {

inline void ok(cudaError_t error) {
  if (error != cudaSuccess) throw RunError(cudaGetErrorName(error));
}

/// Runs body under each stream policy; Random with several seeds.
template <class Body>
void under_every_policy(Body body) {
  struct Choice {
    simt::StreamPolicy policy;
    uint64_t seed;
    const char* name;
  };
  using simt::StreamPolicy;
  const simt::Settings before = simt::settings();
  for (const Choice& c :
       {Choice{StreamPolicy::Lazy, 1, "lazy"}, Choice{StreamPolicy::Eager, 1, "eager"},
        Choice{StreamPolicy::Random, 1, "random, seed 1"}, Choice{StreamPolicy::Random, 2, "random, seed 2"}}) {
    simt::Settings s = before;
    s.policy = c.policy;
    s.seed = c.seed;
    simt::set_settings(s);
    INFO("policy " << c.name);
    body();
  }
  simt::set_settings(before);
}

inline std::string listed(const std::vector<simt::Report>& reports) {
  std::string text;
  for (const simt::Report& r : reports) text += std::string(simt::report_kind_name(r.kind)) + ": " + r.text + "\n";
  return text;
}

/// Two streams, two events, device buffers x and y (zero) and pinned buffers in and out, of kCount floats each.
/// Everything is freed at the end, after the device was waited for.
struct Bench {
  static constexpr int kCount = 1000;
  static constexpr size_t kBytes = kCount * sizeof(float);

  Bench() {
    ok(cudaStreamCreateWithFlags(&copy, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking));
    for (cudaEvent_t* e : {&uploaded, &computed}) ok(cudaEventCreateWithFlags(e, cudaEventDisableTiming));
    for (float** p : {&x, &y}) {
      ok(cudaMalloc(reinterpret_cast<void**>(p), kBytes));
      ok(cudaMemset(*p, 0, kBytes));
    }
    for (float** p : {&in, &out}) ok(cudaMallocHost(reinterpret_cast<void**>(p), kBytes));
    for (int i = 0; i < kCount; ++i) in[i] = static_cast<float>(i);
  }
  ~Bench() {
    (void)cudaDeviceSynchronize();
    for (float* p : {x, y}) (void)cudaFree(p);
    for (float* p : {in, out}) (void)cudaFreeHost(p);
    for (cudaEvent_t e : {uploaded, computed}) (void)cudaEventDestroy(e);
    for (cudaStream_t s : {copy, compute}) (void)cudaStreamDestroy(s);
  }
  Bench(const Bench&) = delete;

  cudaStream_t copy = nullptr, compute = nullptr;
  cudaEvent_t uploaded = nullptr, computed = nullptr;
  float *x = nullptr, *y = nullptr, *in = nullptr, *out = nullptr;
};

}  // namespace trident::testing
