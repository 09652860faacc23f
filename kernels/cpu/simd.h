// Vectors of f32 in the compiler's own extension: one source for AVX2 and AVX-512 (kernels/cpu/isa.h). 16-bit floats
// are storage; they widen on load and round to nearest even on store.
//
// exp and what follows from it are computed here: no libm call per element, the same bits in every lane and tail.
// Where AVX512_BF16 stores bf16, f32 numbers below the normal ones (1.2e-38) become zeros: the instruction does so.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "core/base/dtype.h"

namespace trident::cpu {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#else
inline constexpr int kLanes = 8;
#endif

typedef float VecF __attribute__((vector_size(4 * kLanes)));
typedef int32_t VecI __attribute__((vector_size(4 * kLanes)));
typedef uint32_t VecU __attribute__((vector_size(4 * kLanes)));
typedef uint16_t VecU16 __attribute__((vector_size(2 * kLanes)));

inline VecF broadcast(float x) { return x - VecF{}; }
inline VecI lane_numbers() {
  VecI v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

inline VecF load(const float* p) {
  VecF v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// By intrinsics: GCC 12 widens 16 halves in two steps of 8 and puts them together again, or one by one.
inline VecF load(const bf16* p) {
#if defined(__AVX512F__)
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (VecF)((VecU)_mm512_maskz_cvtepu16_epi32(0xffff, halves) << 16);
#else
  return (VecF)((VecU)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))) << 16);
#endif
}
inline VecF load(const f16* p) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
  return (VecF)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
}

inline void store(float* p, VecF v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16* p, VecF v) {
#if defined(__AVX512BF16__)
  const __m256bh out = _mm512_maskz_cvtneps_pbh(0xffff, (__m512)v);
#else
  const VecU u = (VecU)v;
  const VecU rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VecU quiet = (u >> 16) | 0x40u;
  const VecU is_nan = (VecU)(v != v);
  const VecU16 out = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), VecU16);
#endif
  std::memcpy(static_cast<void*>(p), &out, sizeof out);
}
inline void store(f16* p, VecF v) {
#if defined(__AVX512F__)
  const __m256i out = _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const __m128i out = _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#endif
  std::memcpy(static_cast<void*>(p), &out, sizeof out);
}

inline VecF select(VecI mask, VecF yes, VecF no) { return mask ? yes : no; }
inline VecF max(VecF a, VecF b) { return select(a > b, a, b); }
inline VecF min(VecF a, VecF b) { return select(a < b, a, b); }

/// Sum of the lanes, as a balanced tree.
inline float sum_lanes(VecF v) {
  float lane[kLanes];
  std::memcpy(lane, &v, sizeof v);
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) lane[i] += lane[i + step];
  }
  return lane[0];
}
inline float max_lanes(VecF v) {
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

/// e^x, error below 2 ulp for x in [-87.3, 88.7]; 0 below -87.3 (no denormals), inf above 88.73, NaN stays NaN.
/// x = n ln2 + r with |r| <= ln2/2 (ln2 in two parts, Cody and Waite 1980); e^r by its Taylor polynomial of degree 7,
/// whose remainder r^8/8! is below 6e-9 relative.
inline VecF exp(VecF x) {
#if defined(__AVX512F__)
  // min takes its second operand when one is NaN.
  const VecF bounded = (VecF)_mm512_maskz_min_ps(0xffff, (__m512)broadcast(88.8f), (__m512)x);
#else
  const VecF bounded = max(min(x, broadcast(88.8f)), broadcast(-87.5f));
#endif
  const VecF shift = broadcast(0x1.8p23f);  // adding it rounds to an integer, held in the low mantissa bits
  const VecF shifted = bounded * 1.44269504088896341f + shift;
  const VecF n = shifted - shift;
  const VecF r = (bounded - n * 0.693359375f) + n * 2.12194440054690583e-4f;
  VecF p = broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
#if defined(__AVX512F__)
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // p 2^n, with overflow to inf; 0 where x is less than the bound (NaN is not).
  const __mmask16 keep = _mm512_cmp_ps_mask((__m512)x, (__m512)broadcast(-87.3f), _CMP_NLT_UQ);
  return (VecF)_mm512_maskz_scalef_ps(keep, (__m512)p, (__m512)n);
#else
  p = p * r * r + r + 1.0f;
  // 2^n in two factors: n = 128 occurs below the overflow bound and has no f32 of its own.
  const VecI exponent = (VecI)shifted - (VecI)shift;
  const VecI half = exponent >> 1;
  p = p * (VecF)((half + 127) << 23) * (VecF)((exponent - half + 127) << 23);
  p = select(x < -87.3f, VecF{}, p);
  p = select(x > 88.73f, broadcast(__builtin_inff()), p);
  return select(x != x, x, p);
#endif
}

#if defined(__AVX512DQ__)
/// 2^(t - floor(t)), error 1e-7 relative: a minimax polynomial.
inline VecF exp2_of_rest(VecF t) {
  const VecF r = (VecF)_mm512_maskz_reduce_ps(0xffff, (__m512)t, _MM_FROUND_TO_NEG_INF);
  VecF p = broadcast(1.87757669e-3f);
  p = p * r + 8.98933969e-3f;
  p = p * r + 5.58263175e-2f;
  p = p * r + 2.40153611e-1f;
  p = p * r + 6.93153083e-1f;
  return p * r + 1.0f;
}

/// 2^t, error 1e-7 relative; 0 below -126 (a denormal result takes 170 cycles), inf from 128 on, NaN stays NaN.
inline VecF exp2(VecF t) {
  const __mmask16 keep = _mm512_cmp_ps_mask((__m512)t, (__m512)broadcast(-126.0f), _CMP_NLT_UQ);
  return (VecF)_mm512_maskz_scalef_ps(keep, (__m512)exp2_of_rest(t), (__m512)t);
}
#endif

/// e^x, error below 4 + 2 |x| roundings, relative: exp at two thirds of its price, where a term that is not near the
/// largest one weighs little.
inline VecF exp_term(VecF x) {
#if defined(__AVX512DQ__)
  return exp2(x * 1.44269504088896341f);
#else
  return exp(x);
#endif
}

/// The same, but 0 where x is less than `least`, which is at least -87.336 (a normal number still).
inline VecF exp_term(VecF x, float least) {
#if defined(__AVX512DQ__)
  const VecF t = x * 1.44269504088896341f;
  const __mmask16 keep = _mm512_cmp_ps_mask((__m512)x, (__m512)broadcast(least), _CMP_NLT_UQ);
  return (VecF)_mm512_maskz_scalef_ps(keep, (__m512)exp2_of_rest(t), (__m512)t);
#else
  return select(x < least, VecF{}, exp(x));
#endif
}

/// 1 / (1 + 2^t), error below 4 roundings, relative, and 2 more per unit of t where t is positive. NaN stays NaN.
inline VecF inverse_one_plus_exp2(VecF t) {
#if defined(__AVX512DQ__)
  // 1 + 2^t is 1 long before 2^t would be denormal, which takes 170 cycles; max takes its second operand when one is
  // NaN. From 126 on the estimate would be denormal, or of 1 / inf.
  const VecF bounded = (VecF)_mm512_maskz_max_ps(0xffff, (__m512)broadcast(-126.0f), (__m512)t);
  const __mmask16 keep = _mm512_cmp_ps_mask((__m512)t, (__m512)broadcast(126.0f), _CMP_NGE_UQ);
  const VecF d = 1.0f + (VecF)_mm512_maskz_scalef_ps(0xffff, (__m512)exp2_of_rest(t), (__m512)bounded);
  // A 512-bit division takes 10 cycles. An estimate good to 14 bits and a Newton step, right to an ulp, take 3.
  const VecF estimate = (VecF)_mm512_maskz_rcp14_ps(0xffff, (__m512)d);
  return (VecF)_mm512_maskz_fmadd_ps(keep, (__m512)estimate, (__m512)(1.0f - d * estimate), (__m512)estimate);
#else
  return 1.0f / (1.0f + exp(t * 0.693147180559945309f));
#endif
}

/// 1 / (1 + e^-x), error below 4 roundings, relative, and 2 |x| more where x is negative.
inline VecF sigmoid(VecF x) {
#if defined(__AVX512DQ__)
  return inverse_one_plus_exp2(x * -1.44269504088896341f);
#else
  return 1.0f / (1.0f + exp(-x));
#endif
}

// The masked forms of 512-bit intrinsics: GCC 12 warns of its own plain ones (an undefined operand inside).
inline VecF sqrt(VecF x) {
#if defined(__AVX512F__)
  return (VecF)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#else
  return (VecF)_mm256_sqrt_ps((__m256)x);
#endif
}

/// How many lanes of a step over a row are elements: all, or the last `count` of it.
struct Whole {};
struct Part {
  int64_t count;
};

template <class T>
inline VecF load(const T* p, Whole) {
  return load(p);
}
template <class T>
inline void store(T* p, VecF v, Whole) {
  store(p, v);
}

// A part's elements go through the same conversions as a whole's. The lanes past the end read as 0.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline __mmask16 lane_mask(Part part) { return static_cast<__mmask16>((1u << part.count) - 1); }

inline VecF load(const float* p, Part part) { return (VecF)_mm512_maskz_loadu_ps(lane_mask(part), p); }
template <class T>
inline VecF load(const T* p, Part part) {
  const __m256i halves = _mm256_maskz_loadu_epi16(lane_mask(part), p);
  T all[kLanes];
  std::memcpy(static_cast<void*>(all), &halves, sizeof all);
  return load(all);
}
inline void store(float* p, VecF v, Part part) { _mm512_mask_storeu_ps(p, lane_mask(part), (__m512)v); }
template <class T>
inline void store(T* p, VecF v, Part part) {
  T all[kLanes];
  store(all, v);
  __m256i halves;
  std::memcpy(&halves, all, sizeof halves);
  _mm256_mask_storeu_epi16(p, lane_mask(part), halves);
}
#else
template <class T>
inline VecF load(const T* p, Part part) {
  T all[kLanes] = {};
  for (int64_t i = 0; i < part.count; ++i) all[i] = p[i];
  return load(all);
}
template <class T>
inline void store(T* p, VecF v, Part part) {
  T all[kLanes];
  store(all, v);
  for (int64_t i = 0; i < part.count; ++i) p[i] = all[i];
}
#endif

/// Two steps at once: one conversion rounds both to bf16.
template <class T>
inline void store_pair(T* p, VecF first, VecF second) {
  store(p, first);
  store(p + kLanes, second);
}
#if defined(__AVX512BF16__)
inline void store_pair(bf16* p, VecF first, VecF second) {
  const __m512bh out = _mm512_maskz_cvtne2ps_pbh(0xffffffff, (__m512)second, (__m512)first);
  std::memcpy(static_cast<void*>(p), &out, sizeof out);
}
#endif

/// The bits of 16-bit floats that were rounded already.
template <class T>
inline void store_bits(T* p, VecU16 bits, Whole) {
  std::memcpy(static_cast<void*>(p), &bits, sizeof bits);
}
template <class T>
inline void store_bits(T* p, VecU16 bits, Part part) {
  std::memcpy(static_cast<void*>(p), &bits, static_cast<size_t>(part.count) * sizeof(T));
}

/// Writes two vectors of 16-bit floats to memory past the caches, at a multiple of their size, a line with AVX-512: for
/// what is not read again before the caches have seen much else. The line is then not read for being written.
/// finish_past_caches() follows the last one.
template <class T>
inline void store_past_caches(T* p, VecU16 first, VecU16 second) {
#if defined(__AVX512F__)
  const VecU16 halves[2] = {first, second};
  __m512i line;
  std::memcpy(&line, halves, sizeof line);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), line);
#else
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)first);
  _mm_stream_si128(reinterpret_cast<__m128i*>(p) + 1, (__m128i)second);
#endif
}
inline void finish_past_caches() { _mm_sfence(); }

/// Asks for what lies 512 elements behind p: the hardware's own prefetching alone leaves a fifth of the bandwidth that
/// one thread can read with. Past the end of a tensor it asks for what is not used, or does nothing.
template <class T>
inline void fetch_ahead(const T* p) {
  __builtin_prefetch(p + 512);
}

/// The same for what is written next: a store has to read its line first, too.
template <class T>
inline void claim_ahead(T* p) {
  __builtin_prefetch(p + 512, 1);
}

/// x where a lane is an element, `fill` past the end.
inline VecF fill_tail(VecF x, float, Whole) { return x; }
inline VecF fill_tail(VecF x, float fill, Part part) {
  return select(lane_numbers() < static_cast<int32_t>(part.count), x, broadcast(fill));
}

/// Calls body(i, Whole | Part) for every step of kLanes elements in [begin, end).
template <class Body>
inline void vector_steps(int64_t begin, int64_t end, Body body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, Whole{});
  if (i < end) body(i, Part{end - i});
}

}  // namespace trident::cpu
