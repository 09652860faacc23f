// CPU side of simt.h: CUDA built-ins on top of a fiber scheduler (simt_emu.cpp).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <source_location>
#include <string>
#include <tuple>
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
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __grid_constant__
#define SIMT_DEV inline
#define SIMT_DYN_SMEM(T, name) T* name = reinterpret_cast<T*>(simt::dyn_smem())
#define SIMT_LOC simt::Loc loc = simt::Loc::current()

namespace simt {
#ifdef __cpp_lib_source_location
using Loc = std::source_location;
#else  // clang 14 with libstdc++ 12
struct Loc {
  const char* f = "";
  unsigned l = 0, c = 0;
  static constexpr Loc current(const char* f = __builtin_FILE(), unsigned l = __builtin_LINE(),
                               unsigned c = __builtin_COLUMN()) {
    return {f, l, c};
  }
  constexpr const char* file_name() const { return f; }
  constexpr unsigned line() const { return l; }
  constexpr unsigned column() const { return c; }
};
#endif
struct Builtins {
  uint3 tid{}, bid{};
  dim3 bdim{}, gdim{};
};
extern constinit thread_local Builtins bi;  // excluded from the static-shared range
enum class Order { Ascending, Descending, Random };
struct Options {
  Order order = Order::Ascending;
  uint64_t seed = 1;
  bool strict = true;
  bool throw_on_error = true;
};
extern Options opt;
struct Stats {
  uint64_t threads = 0, switches = 0, launches = 0, blocks = 0, collectives = 0;
};
extern Stats stats;
struct Error : std::exception {
  std::string msg;
  explicit Error(std::string m) : msg(std::move(m)) {}
  const char* what() const noexcept override { return msg.c_str(); }
};
[[noreturn]] void fail(const std::string& what, const Loc& l);

void* dyn_smem();
void sync_block(const Loc&);
int sync_block_reduce(int kind, int pred, const Loc&);  // 0 count, 1 and, 2 or
// A warp collective: each lane deposits in/out pointers; the last lane to arrive runs fn for the group.
struct WarpGroup {
  uint32_t mask;
  uint32_t present;
  void* in[32];
  void* out[32];
  Loc loc[32];
};
using CollFn = void (*)(WarpGroup&);
void collective(int kind, uint32_t mask, CollFn fn, void* in, void* out, const Loc&, bool orders_memory);
unsigned lane_id();
// explicit memory hooks (no-ops unless the checked runtime is linked and enabled)
void check_access(const void* p, size_t n, bool write, bool atomic, unsigned align, const char* what, const Loc&);
void cp_async(void* s, const void* g, int bytes, bool valid, const Loc&);
void cp_commit(const Loc&);
void cp_wait(int n, const Loc&);

template <class T>
struct ShflArg {
  T v;
  int src;
};
template <class T>
void shfl_exec(WarpGroup& w) {
  for (int l = 0; l < 32; ++l)
    if (w.present >> l & 1) {
      auto* a = static_cast<ShflArg<T>*>(w.in[l]);
      if (!(w.present >> a->src & 1)) fail("shuffle reads from inactive lane " + std::to_string(a->src), w.loc[l]);
      *static_cast<T*>(w.out[l]) = static_cast<ShflArg<T>*>(w.in[a->src])->v;
    }
}
template <class T>
T shfl(int kind, uint32_t mask, T v, int src, const Loc& loc) {
  ShflArg<T> a{v, src};
  T r{};
  collective(kind, mask, shfl_exec<T>, &a, &r, loc, false);
  return r;
}
inline void ballot_exec(WarpGroup& w) {
  uint32_t b = 0;
  for (int l = 0; l < 32; ++l)
    if (w.present >> l & 1) b |= uint32_t(*static_cast<int*>(w.in[l]) != 0) << l;
  for (int l = 0; l < 32; ++l)
    if (w.present >> l & 1) *static_cast<uint32_t*>(w.out[l]) = b;
}
inline uint32_t ballot(int kind, uint32_t mask, int p, const Loc& loc) {
  uint32_t r = 0;
  collective(kind, mask, ballot_exec, &p, &r, loc, false);
  return r;
}
inline void nop_exec(WarpGroup&) {}
}  // namespace simt

#define threadIdx (::simt::bi.tid)
#define blockIdx (::simt::bi.bid)
#define blockDim (::simt::bi.bdim)
#define gridDim (::simt::bi.gdim)
constexpr int warpSize = 32;

inline void __syncthreads(SIMT_LOC) { simt::sync_block(loc); }
inline int __syncthreads_or(int p, SIMT_LOC) { return simt::sync_block_reduce(2, p, loc); }
inline int __syncthreads_and(int p, SIMT_LOC) { return simt::sync_block_reduce(1, p, loc); }
inline int __syncthreads_count(int p, SIMT_LOC) { return simt::sync_block_reduce(0, p, loc); }
inline void __syncwarp(unsigned m = ~0u, SIMT_LOC) {
  simt::collective(1, m, simt::nop_exec, nullptr, nullptr, loc, true);
}
inline unsigned __ballot_sync(unsigned m, int p, SIMT_LOC) { return simt::ballot(2, m, p, loc); }
inline int __any_sync(unsigned m, int p, SIMT_LOC) { return simt::ballot(3, m, p, loc) != 0; }
inline int __all_sync(unsigned m, int p, SIMT_LOC) { return simt::ballot(4, m, !p, loc) == 0; }
template <class T>
T __shfl_sync(unsigned m, T v, int src, int w = 32, SIMT_LOC) {
  int l = simt::lane_id();
  return simt::shfl(5, m, v, (l & ~(w - 1)) | (src & (w - 1)), loc);
}
template <class T>
T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, SIMT_LOC) {
  int l = simt::lane_id(), s = l ^ x;
  if (s > (l | (w - 1))) s = l;
  return simt::shfl(6, m, v, s, loc);
}
template <class T>
T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_LOC) {
  int l = simt::lane_id(), s = l + d;
  if ((l & (w - 1)) + (int)d >= w) s = l;
  return simt::shfl(7, m, v, s, loc);
}
template <class T>
T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, SIMT_LOC) {
  int l = simt::lane_id(), s = l - d;
  if ((l & (w - 1)) < (int)d) s = l;
  return simt::shfl(8, m, v, s, loc);
}

template <class T>
T atomicAdd(T* p, T v, SIMT_LOC) {
  simt::check_access(p, sizeof(T), true, true, alignof(T), "atomicAdd", loc);
  T o = *p;
  *p = o + v;
  return o;
}
template <class T>
T atomicMax(T* p, T v, SIMT_LOC) {
  simt::check_access(p, sizeof(T), true, true, alignof(T), "atomicMax", loc);
  T o = *p;
  if (v > o) *p = v;
  return o;
}
template <class T>
T atomicExch(T* p, T v, SIMT_LOC) {
  simt::check_access(p, sizeof(T), true, true, alignof(T), "atomicExch", loc);
  T o = *p;
  *p = v;
  return o;
}
template <class T>
T atomicCAS(T* p, T c, T v, SIMT_LOC) {
  simt::check_access(p, sizeof(T), true, true, alignof(T), "atomicCAS", loc);
  T o = *p;
  if (o == c) *p = v;
  return o;
}
template <class T>
T __ldg(const T* p, SIMT_LOC) {
  simt::check_access(p, sizeof(T), false, false, alignof(T), "__ldg", loc);
  return *p;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

inline int min(int a, int b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline unsigned __float_as_uint(float f) { return std::bit_cast<unsigned>(f); }
inline float __uint_as_float(unsigned u) { return std::bit_cast<float>(u); }
inline int __float_as_int(float f) { return std::bit_cast<int>(f); }
inline float __int_as_float(int u) { return std::bit_cast<float>(u); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t)a * b >> 32); }
namespace simt {
inline float fexp(float x) { return ::expf(x); }
inline float flog(float x) { return ::logf(x); }
}  // namespace simt
#define __expf ::simt::fexp  // glibc declares but does not export these names
#define __logf ::simt::flog
#define exp2f_approx ::exp2f

namespace simt {
inline uint4 ld128(const void* p, SIMT_LOC) {
  check_access(p, 16, false, false, 16, "ld128", loc);
  uint4 v;
  std::memcpy(&v, p, 16);
  return v;
}
inline void st128(void* p, uint4 v, SIMT_LOC) {
  check_access(p, 16, true, false, 16, "st128", loc);
  std::memcpy(p, &v, 16);
}
inline void cp_async16(void* s, const void* g, bool valid, SIMT_LOC) { cp_async(s, g, 16, valid, loc); }
inline void cp_async_commit(SIMT_LOC) { cp_commit(loc); }
template <int N>
inline void cp_async_wait(SIMT_LOC) {
  cp_wait(N, loc);
}
void ldmatrix_exec(WarpGroup&);
void ldmatrix_t_exec(WarpGroup&);
void mma_exec(WarpGroup&);
void mma_f16_exec(WarpGroup&);
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_LOC) {
  collective(9, ~0u, ldmatrix_exec, const_cast<void*>(row), r, loc, false);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, SIMT_LOC) {
  collective(10, ~0u, ldmatrix_t_exec, const_cast<void*>(row), r, loc, false);
}
struct MmaIn {
  uint32_t a[4], b[2];
};
inline void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_LOC) {
  MmaIn in{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  collective(11, ~0u, mma_exec, &in, d, loc, false);
}
inline void mma_f16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_LOC) {
  MmaIn in{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  collective(12, ~0u, mma_f16_exec, &in, d, loc, false);
}
// launch: runs on the emulated stream s (runtime emulation), or at once when no runtime is linked
struct LaunchInfo {
  const void* func;
  const char* name;
  dim3 g, b;
  size_t smem;
  void (*body)(void*);
  std::shared_ptr<void> params;
  size_t params_size;
};
cudaError_t enqueue_launch(LaunchInfo, cudaStream_t);
void run_grid(const LaunchInfo&);
template <class... P, class... A>
cudaError_t launch(void (*k)(P...), dim3 g, dim3 b, size_t smem, cudaStream_t s, A&&... a) {
  struct Call {
    void (*k)(P...);
    std::tuple<P...> t;
  };                       // kernel parameters are copied at launch time
  if (smem > 48 * 1024) {  // as the nvcc side does
    const cudaError_t e = cudaFuncSetAttribute((const void*)k, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (e != cudaSuccess) return e;
  }
  auto c = std::shared_ptr<Call>(new Call{k, {static_cast<P>(std::forward<A>(a))...}});
  return enqueue_launch({(const void*)k, __PRETTY_FUNCTION__, g, b, smem,
                         [](void* p) {
                           auto* c = static_cast<Call*>(p);
                           std::apply(c->k, c->t);
                         },
                         c, sizeof(Call)},
                        s);
}
}  // namespace simt
