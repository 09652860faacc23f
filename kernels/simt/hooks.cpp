// The functions that -fsanitize=thread and -fsanitize=alignment make the compiler call, in our own meaning: every load
// and store of a kernel goes to the memory model. The sanitizers' libraries are not linked. Linking this file is what
// makes a program a checked one; it is itself compiled without instrumentation.
//
// The compiler takes these functions for nothrow, so a report leaves through the scheduler, never by an exception.
#include <cstdint>
#include <cstring>

#include "core/base/error.h"
#include "kernels/simt/memory_model.h"
#include "kernels/simt/report.h"

namespace {

using simt::AccessKind;

/// Silent inside the emulator: a std:: template that it shares with an instrumented file may be the instrumented copy.
inline void hook(void* p, size_t bytes, AccessKind access, const char* what, const void* pc) {
  if (simt::builtins.on_fiber != simt::builtins.in_kernel) return;
  simt::check_hooked_access(p, bytes, access, what, pc);
}

/// UBSan's description of a dereference.
struct TypeMismatch {
  struct {
    const char* file;
    unsigned line, column;
  } loc;
  void* type;
  unsigned char log_alignment, kind;
};

}  // namespace

#define SIMT_PC __builtin_return_address(0)
#define SIMT_HOOKS(bytes)                                                                                   \
  void __tsan_read##bytes(void* p) { hook(p, bytes, AccessKind::read, "load", SIMT_PC); }                   \
  void __tsan_write##bytes(void* p) { hook(p, bytes, AccessKind::write, "store", SIMT_PC); }                \
  void __tsan_unaligned_read##bytes(void* p) { hook(p, bytes, AccessKind::read, "load", SIMT_PC); }         \
  void __tsan_unaligned_write##bytes(void* p) { hook(p, bytes, AccessKind::write, "store", SIMT_PC); }      \
  void __tsan_volatile_read##bytes(void* p) { hook(p, bytes, AccessKind::read, "volatile load", SIMT_PC); } \
  void __tsan_volatile_write##bytes(void* p) { hook(p, bytes, AccessKind::write, "volatile store", SIMT_PC); }
// Atomics of host code in instrumented files (shared_ptr counts); kernels use the CUDA intrinsics.
#define SIMT_ATOMICS(bits, T)                                                                                       \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }

extern "C" {

SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)
SIMT_ATOMICS(8, char)
SIMT_ATOMICS(32, int)
SIMT_ATOMICS(64, long)

void __tsan_init() { simt::checked = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, size_t bytes) { hook(p, bytes, AccessKind::read, "load", SIMT_PC); }
void __tsan_write_range(void* p, size_t bytes) { hook(p, bytes, AccessKind::write, "store", SIMT_PC); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  hook(const_cast<void*>(from), bytes, AccessKind::read, "memcpy source", SIMT_PC);
  hook(to, bytes, AccessKind::write, "memcpy destination", SIMT_PC);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memset(void* p, int value, size_t bytes) {
  hook(p, bytes, AccessKind::write, "memset", SIMT_PC);
  return std::memset(p, value, bytes);
}

void __ubsan_handle_type_mismatch_v1(TypeMismatch* access, void* p) {
  const uintptr_t alignment = uintptr_t{1} << access->log_alignment;
  if (!simt::builtins.in_kernel || reinterpret_cast<uintptr_t>(p) % alignment == 0) return;
  simt::fail(trident::build_string("misaligned access: address needs ", alignment, "-byte alignment"), nullptr,
             SIMT_PC);
}

}  // extern "C"
