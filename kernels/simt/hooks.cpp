// our own definitions of the functions that -fsanitize=thread / alignment call. libtsan is NOT linked.
#include "kernels/simt/runtime.h"
#define PC __builtin_return_address(0)
using namespace simt;
static inline void hook(void* p, size_t n, bool w, const char* what, const void* pc) {
  if (on_fiber != in_kernel) return;  // inside the runtime (std:: templates may be shared with instrumented files)
  if (on_fiber) {
    Rt rt;
    access(p, n, w, false, what, nullptr, pc);
  } else
    access(p, n, w, false, what, nullptr, pc);
}
#define H(sz)                                                                         \
  void __tsan_read##sz(void* p) { hook(p, sz, false, "load", PC); }                   \
  void __tsan_write##sz(void* p) { hook(p, sz, true, "store", PC); }                  \
  void __tsan_unaligned_read##sz(void* p) { hook(p, sz, false, "load", PC); }         \
  void __tsan_unaligned_write##sz(void* p) { hook(p, sz, true, "store", PC); }        \
  void __tsan_volatile_read##sz(void* p) { hook(p, sz, false, "volatile load", PC); } \
  void __tsan_volatile_write##sz(void* p) { hook(p, sz, true, "volatile store", PC); }
extern "C" {
H(1)
H(2)
H(4)
H(8) H(16)
// host-side atomics inside instrumented files (shared_ptr counts); kernels use the CUDA intrinsics instead
#define AT(b, T)                                                                                                 \
  T __tsan_atomic##b##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##b##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
  T __tsan_atomic##b##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  void __tsan_atomic##b##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }           \
  T __tsan_atomic##b##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
    AT(8, char) AT(32, int) AT(64, long) void __tsan_init() {
  checked = true;
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, unsigned long n) { hook(p, n, false, "load", PC); }
void __tsan_write_range(void* p, unsigned long n) { hook(p, n, true, "store", PC); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
struct TMData {
  struct {
    const char* f;
    unsigned l, c;
  } loc;
  void* type;
  unsigned char align, kind;
};
void __ubsan_handle_type_mismatch_v1(TMData* d, void* p) {
  if (!in_kernel) return;
  if ((uintptr_t)p % (1ul << d->align)) {
    char b[200];
    const char* s = strrchr(d->loc.f, '/');
    snprintf(b, sizeof b, "misaligned access: address needs %lu-byte alignment, %s:%u", 1ul << d->align,
             s ? s + 1 : d->loc.f, d->loc.l);
    fail(b, Loc::current());
  }
}
}
