// The CUDA language for g++: what a kernel source sees on a machine without a GPU.
//
// Policy: a kernel is ordinary C++ that a fiber per thread executes. `__shared__` variables are thread-local, hence one
// copy for the block now running; built-ins and collectives go through warp.h. Arithmetic lives in intrinsics.h, the
// instructions that ptx.h wraps for nvcc in instructions.h, launching in launch.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#undef __shared__
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline
#define __grid_constant__
#ifdef __clang__
#define __launch_bounds__(...)
#else
// Leaves `threads` one-byte nops in front of the kernel's entry, where launch_bound() counts them; nothing executes
// them. It is the one function attribute that takes a dependent number and survives to run time.
#define __launch_bounds__(threads, ...) __attribute__((patchable_function_entry((threads), (threads))))
#endif

#define SIMT_DEV inline
#define SIMT_DYN_SMEM(T, name) T* name = reinterpret_cast<T*>(simt::dynamic_shared())

#include "kernels/simt/instructions.h"
#include "kernels/simt/intrinsics.h"
#include "kernels/simt/launch.h"
#include "kernels/simt/warp.h"

#define threadIdx (::simt::builtins.tid)
#define blockIdx (::simt::builtins.bid)
#define blockDim (::simt::builtins.bdim)
#define gridDim (::simt::builtins.gdim)
constexpr int warpSize = 32;

inline void __syncthreads(SIMT_LOC) { simt::sync_block(simt::Barrier::sync, 0, loc); }
inline int __syncthreads_or(int p, SIMT_LOC) { return simt::sync_block(simt::Barrier::any, p, loc); }
inline int __syncthreads_and(int p, SIMT_LOC) { return simt::sync_block(simt::Barrier::all, p, loc); }
inline int __syncthreads_count(int p, SIMT_LOC) { return simt::sync_block(simt::Barrier::count, p, loc); }
inline void __syncwarp(unsigned mask = simt::kFullMask, SIMT_LOC) { simt::sync_warp(mask, loc); }

inline unsigned __ballot_sync(unsigned mask, int p, SIMT_LOC) {
  return simt::vote(simt::Collective::ballot, mask, p != 0, loc);
}
inline int __any_sync(unsigned mask, int p, SIMT_LOC) {
  return simt::vote(simt::Collective::any, mask, p != 0, loc) != 0;
}
inline int __all_sync(unsigned mask, int p, SIMT_LOC) {
  return simt::vote(simt::Collective::all, mask, p == 0, loc) == 0;
}

namespace simt {

template <class T>
T shuffle(Collective kind, unsigned mask, const T& value, int source, const Loc& loc) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(kind, mask, bits, source, loc);
  T result;
  std::memcpy(static_cast<void*>(&result), &bits, sizeof(T));
  return result;
}

}  // namespace simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_LOC) {
  const int lane = static_cast<int>(simt::lane_id());
  return simt::shuffle(simt::Collective::shuffle, mask, value, (lane & ~(width - 1)) | (source & (width - 1)), loc);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_LOC) {
  const int lane = static_cast<int>(simt::lane_id());
  const int source = lane ^ lane_mask;
  const bool inside = source <= (lane | (width - 1));
  return simt::shuffle(simt::Collective::shuffle_xor, mask, value, inside ? source : lane, loc);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_LOC) {
  const int lane = static_cast<int>(simt::lane_id()), distance = static_cast<int>(delta);
  const bool inside = (lane & (width - 1)) + distance < width;
  return simt::shuffle(simt::Collective::shuffle_down, mask, value, inside ? lane + distance : lane, loc);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_LOC) {
  const int lane = static_cast<int>(simt::lane_id()), distance = static_cast<int>(delta);
  const bool inside = (lane & (width - 1)) >= distance;
  return simt::shuffle(simt::Collective::shuffle_up, mask, value, inside ? lane - distance : lane, loc);
}

namespace simt {

/// Replaces *p by update(*p) and returns what it was. The atomicity is free: one thread of the grid runs at a time.
template <class T, class F>
T atomically(T* p, F update, const char* what, const Loc& loc) {
  check_access(p, sizeof(T), AccessKind::atomic, what, loc);
  T old;
  copy_unchecked(&old, p, sizeof(T));
  const T next = update(old);
  copy_unchecked(p, &next, sizeof(T));
  return old;
}

}  // namespace simt

template <class T>
T atomicAdd(T* p, T value, SIMT_LOC) {
  return simt::atomically(
      p, [&](T old) { return static_cast<T>(old + value); }, "atomicAdd", loc);
}
template <class T>
T atomicMax(T* p, T value, SIMT_LOC) {
  return simt::atomically(
      p, [&](T old) { return value > old ? value : old; }, "atomicMax", loc);
}
template <class T>
T atomicExch(T* p, T value, SIMT_LOC) {
  return simt::atomically(
      p, [&](T) { return value; }, "atomicExch", loc);
}
template <class T>
T atomicCAS(T* p, T compare, T value, SIMT_LOC) {
  return simt::atomically(
      p, [&](T old) { return old == compare ? value : old; }, "atomicCAS", loc);
}
template <class T>
T __ldg(const T* p, SIMT_LOC) {
  T value;
  simt::load_checked(static_cast<void*>(&value), p, sizeof(T), "__ldg", loc);
  return value;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
