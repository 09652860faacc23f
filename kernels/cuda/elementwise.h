// Flat operations: one kernel that hands out elements, 16 bytes a thread and tensor where addresses allow, and what an
// operation does with them as a body.
//
// Policy: a body is a struct of pointers and numbers with `template <int kWidth> void run(int64_t i) const`, which
// treats the elements [i, i + kWidth). It loads all it needs before it stores, so outputs may be inputs. One pack a
// thread: a full multiprocessor then has some 32 KiB of a tensor in flight, twice what hides the memory's latency.
#pragma once

#include "kernels/cuda/element.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {

constexpr int kElementThreads = 256;

/// Packs of every tensor are 16 bytes, or 8 where a 16-bit tensor stands beside an f32 one: both are one access, so
/// that neighbouring lanes touch neighbouring bytes.
template <class... T>
inline constexpr int kCommonWidth = 16 / std::max({static_cast<int>(sizeof(T))...});

template <class Body, int kWidth>
__global__ void __launch_bounds__(kElementThreads) elements_kernel(const Body body, int64_t n) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x;
  const int64_t packs = n / kWidth;
  if (thread < packs) {
    body.template run<kWidth>(thread * kWidth);
  } else if (const int64_t i = packs * kWidth + (thread - packs); i < n) {
    body.template run<1>(i);
  }
}

/// Runs the body over [0, n) in packs of kWidth, one a thread, and the tail in single elements.
template <int kWidth, class Body>
void run_elements(cudaStream_t stream, const char* operation, int64_t n, const Body& body) {
  if (n == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(n / kWidth + n % kWidth, kElementThreads)));
  check_launch(simt::launch(elements_kernel<Body, kWidth>, grid, dim3(kElementThreads), 0, stream, body, n), operation);
}

/// As above, in packs of kWidth when `wide`, else one by one.
template <int kWidth, class Body>
void run_elements(cudaStream_t stream, const char* operation, int64_t n, bool wide, const Body& body) {
  if (wide) {
    run_elements<kWidth>(stream, operation, n, body);
  } else {
    run_elements<1>(stream, operation, n, body);
  }
}

/// True when packs that start at a tensor's first element are aligned to 16 bytes.
inline bool aligned(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.data) % 16 == 0; }

}  // namespace trident::cuda
