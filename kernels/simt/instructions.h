// The instructions that kernels/cuda/ptx.h wraps for nvcc, emulated: the two headers offer the same functions.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simt/warp.h"

namespace simt {

/// Whether fast mode may make an access of 8 or 16 bytes without more ado: the address is aligned, and outside the
/// device heap (shared memory, locals) or wholly inside a live allocation.
template <size_t kBytes>
inline bool surely_good(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p), offset = address - heap_view.begin;
  if (checked || address % kBytes != 0) return false;
  if (offset >= heap_view.bytes) return true;
  uint64_t live = ~uint64_t{0};
  for (size_t i = 0; i < kBytes; i += 8) {
    uint64_t state;
    std::memcpy(&state, heap_view.state + offset + i, 8);
    live &= state;
  }
  return (live & 0x0101010101010101u) == 0x0101010101010101u;
}
template <class V>
inline V load_vector(const void* p, const char* what, const Loc& loc) {
  V value;
  if (surely_good<sizeof(V)>(p)) {
    std::memcpy(&value, p, sizeof(V));
  } else {
    load_checked(&value, p, sizeof(V), what, loc);
  }
  return value;
}
template <class V>
inline void store_vector(void* p, const V& value, const char* what, const Loc& loc) {
  if (surely_good<sizeof(V)>(p)) {
    std::memcpy(p, &value, sizeof(V));
  } else {
    store_checked(p, &value, sizeof(V), what, loc);
  }
}

/// 8- and 16-byte loads and stores of shared or global memory. A kernel uses these and never dereferences a uint2 or
/// float4: g++ splits such a struct into scalars, and the counters would see a strided pattern.
inline uint4 ld128(const void* p, SIMT_LOC) { return load_vector<uint4>(p, "ld128", loc); }
inline void st128(void* p, uint4 value, SIMT_LOC) { store_vector(p, value, "st128", loc); }
inline uint2 ld64(const void* p, SIMT_LOC) { return load_vector<uint2>(p, "ld64", loc); }
inline void st64(void* p, uint2 value, SIMT_LOC) { store_vector(p, value, "st64", loc); }

inline void cp_async16(void* shared, const void* global, bool valid, SIMT_LOC) {
  copy_async(shared, global, 16, valid, loc);
}
inline void cp_async_commit() { commit_copies(); }
template <int kLeft>
inline void cp_async_wait(SIMT_LOC) {
  wait_copies(kLeft, loc);
}

inline void ldmatrix_x4(uint32_t (&words)[4], const void* row, SIMT_LOC) {
  load_matrices(Collective::ldmatrix, words, row, loc);
}
inline void ldmatrix_x4_trans(uint32_t (&words)[4], const void* row, SIMT_LOC) {
  load_matrices(Collective::ldmatrix_trans, words, row, loc);
}

inline void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_LOC) {
  const uint32_t b[1][2] = {{b0, b1}};
  multiply_accumulate(Collective::mma_bf16, 1, &d, a, b, loc);
}
inline void mma_f16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_LOC) {
  const uint32_t b[1][2] = {{b0, b1}};
  multiply_accumulate(Collective::mma_f16, 1, &d, a, b, loc);
}
/// One mma for each of kTiles neighbouring tiles of b: the same instructions as a loop, met only once here.
template <int kTiles>
inline void mma_bf16_16816_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2],
                               SIMT_LOC) {
  static_assert(kTiles <= static_cast<int>(kMostTiles));
  multiply_accumulate(Collective::mma_bf16, kTiles, d, a, b, loc);
}
template <int kTiles>
inline void mma_f16_16816_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2], SIMT_LOC) {
  static_assert(kTiles <= static_cast<int>(kMostTiles));
  multiply_accumulate(Collective::mma_f16, kTiles, d, a, b, loc);
}

}  // namespace simt
