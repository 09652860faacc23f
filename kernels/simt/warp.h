// What an emulated kernel calls to meet other threads: barriers of the block, collectives of the warp, and the checks
// of explicit memory accesses. Declarations only: the bodies are compiled without instrumentation (block.h has the
// inside).
#pragma once

#include <cuda_runtime_api.h>
#include <vector_types.h>

#include <cstddef>
#include <cstdint>

#include "kernels/simt/location.h"

namespace simt {

/// The built-in variables of the thread now running on the calling OS thread, and whether it runs kernel code. One
/// object, so that the memory model can tell it from `__shared__` variables, which are thread-local too.
struct Builtins {
  uint3 tid{}, bid{};
  dim3 bdim{}, gdim{};
  bool on_fiber = false;   // between the first and the last instruction of a kernel's thread
  bool in_kernel = false;  // and not inside the emulator
};
extern constinit thread_local Builtins builtins;

enum class Barrier : uint8_t { sync, count, all, any };
enum class Collective : uint8_t {
  sync_warp,
  ballot,
  any,
  all,
  shuffle,
  shuffle_xor,
  shuffle_down,
  shuffle_up,
  ldmatrix,
  ldmatrix_trans,
  mma_bf16,
  mma_f16
};
constexpr uint32_t kFullMask = 0xffffffffu;

/// Waits for all threads of the block; returns the number of non-zero predicates, or whether all or any are non-zero.
int sync_block(Barrier kind, int predicate, const Loc& loc);

unsigned lane_id();
void sync_warp(uint32_t mask, const Loc& loc);
/// The lanes of `mask` whose predicate is non-zero.
uint32_t vote(Collective kind, uint32_t mask, bool predicate, const Loc& loc);
/// The bits that lane `source` brings.
uint64_t exchange(Collective kind, uint32_t mask, uint64_t bits, int source, const Loc& loc);
/// Four 8x8 matrices of 16-bit elements; lane 8 m + r names row r of matrix m.
void load_matrices(Collective kind, uint32_t (&words)[4], const void* row, const Loc& loc);
/// d[i] += a b[i] for `tiles` (at most kMostTiles) tiles of 8 columns: a 16x16, b[i] 16x8, each as one PTX
/// mma.m16n8k16; see tensor_core.h for the arithmetic.
void multiply_accumulate(Collective kind, unsigned tiles, float (*d)[4], const uint32_t (&a)[4], const uint32_t (*b)[2],
                         const Loc& loc);
constexpr unsigned kMostTiles = 16;

enum class AccessKind : uint8_t { read, write, atomic };

/// Checks an access of an intrinsic; plain loads and stores come through the hooks in checked mode instead. `bytes` is
/// also the alignment that the access needs.
void check_access(const void* p, size_t bytes, AccessKind access, const char* what, const Loc& loc);
/// Check and access in one, out of the hooks' sight.
void load_checked(void* to, const void* p, size_t bytes, const char* what, const Loc& loc);
void store_checked(void* p, const void* from, size_t bytes, const char* what, const Loc& loc);
/// memcpy out of the hooks' sight.
void copy_unchecked(void* to, const void* from, size_t bytes);

void copy_async(void* shared, const void* global, int bytes, bool valid, const Loc& loc);
void commit_copies();
/// Completes all but the latest `left` committed groups of this thread.
void wait_copies(int left, const Loc& loc);

/// The block's dynamic shared memory, aligned to 1024 bytes.
void* dynamic_shared();

/// What the fast mode needs to check an access inline: the device heap and one state byte for each of its bytes, whose
/// lowest bit says that the byte belongs to a live allocation.
struct HeapView {
  uintptr_t begin = 0;
  size_t bytes = 0;
  const uint8_t* state = nullptr;
};
extern HeapView heap_view;
extern bool checked;  // the hooks are linked in: every access is checked

}  // namespace simt
