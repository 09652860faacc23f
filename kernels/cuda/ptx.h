// nvcc side: every PTX string of the project lives here and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#define SIMT_DYN_SMEM(T, name)                                    \
  extern __shared__ __align__(128) unsigned char simt_smem_raw[]; \
  T* name = reinterpret_cast<T*>(simt_smem_raw)
#define SIMT_DEV __device__ __forceinline__
namespace simt {
SIMT_DEV uint32_t smem_u32(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
SIMT_DEV uint4 ld128(const void* p) { return *reinterpret_cast<const uint4*>(p); }
SIMT_DEV void st128(void* p, uint4 v) { *reinterpret_cast<uint4*>(p) = v; }
SIMT_DEV uint2 ld64(const void* p) { return *reinterpret_cast<const uint2*>(p); }
SIMT_DEV void st64(void* p, uint2 v) { *reinterpret_cast<uint2*>(p) = v; }
// valid=false writes 16 zero bytes (src-size 0), gmem is not read
SIMT_DEV void cp_async16(void* smem, const void* gmem, bool valid) {
  int n = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_u32(smem)), "l"(gmem), "r"(n) : "memory");
}
SIMT_DEV void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
SIMT_DEV void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
SIMT_DEV void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
SIMT_DEV void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
SIMT_DEV void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
SIMT_DEV void mma_f16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// One mma for each of kTiles neighbouring tiles of b.
template <int kTiles>
SIMT_DEV void mma_bf16_16816_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) mma_bf16_16816(d[i], a, b[i][0], b[i][1]);
}
template <int kTiles>
SIMT_DEV void mma_f16_16816_row(float (&d)[kTiles][4], const uint32_t (&a)[4], const uint32_t (&b)[kTiles][2]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) mma_f16_16816(d[i], a, b[i][0], b[i][1]);
}
// 2^x to 2 ulp in one instruction; results below 2^-126 become 0
SIMT_DEV float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
template <class... P, class... A>
inline cudaError_t launch(void (*k)(P...), dim3 g, dim3 b, size_t smem, cudaStream_t s, A&&... a) {
  if (smem > 48 * 1024) {
    cudaError_t e = cudaFuncSetAttribute((const void*)k, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (e != cudaSuccess) return e;
  }
  cudaLaunchConfig_t c{};
  c.gridDim = g;
  c.blockDim = b;
  c.dynamicSmemBytes = smem;
  c.stream = s;
  return cudaLaunchKernelEx(&c, k, static_cast<P>(std::forward<A>(a))...);
}
}  // namespace simt
