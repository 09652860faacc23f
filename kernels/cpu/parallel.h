// How the CPU kernels share work, and how they pick a type. Static partition of fixed pieces: which thread computes an
// element never changes the element, so results do not depend on the number of threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/base/error.h"
#include "core/base/integer.h"
#include "core/base/tensor.h"

namespace trident::cpu {

using trident::ceil_div;
using trident::round_up;

inline constexpr size_t kCacheLine = 64;

/// The first cache line at or after p: vectors and tiles that straddle lines cost up to half of the speed.
template <class T>
T* align_to_line(void* p) {
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(p) + kCacheLine - 1) / kCacheLine * kCacheLine);
}

/// Below this many touched elements waking a team costs more than the work.
inline constexpr int64_t kSerialWork = 1 << 15;

/// Threads worth using for `pieces` pieces that touch `work` elements in all. 1 inside a parallel region.
inline int team_size(int64_t pieces, int64_t work) {
  if (work < kSerialWork || omp_in_parallel()) return 1;
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(omp_get_max_threads(), pieces)));
}

/// Calls body(begin, end) on contiguous shares of [0, pieces).
template <class Body>
void parallel_range(int64_t pieces, int64_t work, Body body) {
  const int team = team_size(pieces, work);
  if (team == 1) {
    body(int64_t{0}, pieces);
    return;
  }
#pragma omp parallel num_threads(team)
  {
    const int64_t n = omp_get_num_threads(), me = omp_get_thread_num();
    body(pieces * me / n, pieces * (me + 1) / n);
  }
}

template <class T>
struct TypeTag {
  using type = T;
};

/// Calls f(TypeTag<float | bf16 | f16>) for a compute dtype. Throws InternalError for any other dtype.
template <class F>
void with_float(DType dtype, F f) {
  switch (dtype) {
    case DType::f32: return f(TypeTag<float>{});
    case DType::bf16: return f(TypeTag<bf16>{});
    case DType::f16: return f(TypeTag<f16>{});
    default: ensure(false, "the CPU kernels compute in f32, bf16 and f16 only");
  }
}

template <class Tag>
using TypeOf = typename std::decay_t<Tag>::type;

}  // namespace trident::cpu
