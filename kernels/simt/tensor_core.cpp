// The tensor-core instructions. Compiled without instrumentation.
//
// Each lane decodes and places its own elements, the last lane multiplies whole matrices with vectors of 16
// rows, and each lane picks up its four sums: no gathering over lanes.
//
// Names of dims: M 16 rows of d, N 8 columns of d, K 16 products.
#include "kernels/simt/tensor_core.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

#include <bit>
#include <cstring>

#include "core/base/error.h"
#include "kernels/simt/collectives.h"
#include "kernels/simt/counting.h"
#include "kernels/simt/memory_model.h"
#include "kernels/simt/report.h"
#include "kernels/simt/shared_memory.h"

// One binary for any x86-64: the loader picks the widest version the processor has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SIMT_VECTOR_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SIMT_VECTOR_CLONES
#endif

namespace simt {
namespace {

using Rows = float __attribute__((vector_size(64)));  // 16 rows of one column

SIMT_VECTOR_CLONES void multiply(MatrixOperands& m) {
  for (unsigned n = 0; n < m.tiles * 8; ++n) {
    Rows sum{};
    for (int k = 0; k < 16; ++k) {
      Rows column;
      std::memcpy(&column, m.a_KM[k], sizeof column);
      sum += column * m.b_NK[n][k];
    }
    std::memcpy(m.product_NM[n], &sum, sizeof sum);
  }
}

inline float decode_bf16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }

inline float decode_f16(uint32_t bits) {
#ifdef __F16C__
  return _cvtsh_ss(static_cast<unsigned short>(bits));
#else
  constexpr uint32_t kRebias = 112u << 23;  // from f16's exponent to f32's
  const uint32_t magnitude = (bits & 0x7fffu) << 13, sign = (bits & 0x8000u) << 16;
  if (magnitude < 0x00800000u) {  // zero or subnormal; its f32 image is normal
    const float value = static_cast<float>(bits & 0x3ffu) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
  }
  const bool finite = magnitude < 0x0f800000u;
  return std::bit_cast<float>((magnitude + (finite ? kRebias : 2 * kRebias)) | sign);
#endif
}

template <float (*decode)(uint32_t)>
void place_a(MatrixOperands& m, unsigned lane, const uint32_t (&a)[4]) {
  const unsigned group = lane / 4, pair = lane % 4 * 2;
#pragma GCC unroll 4
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = group + i % 2 * 8, k = pair + i / 2 * 8;
    m.a_KM[k][row] = decode(a[i] & 0xffffu);
    m.a_KM[k + 1][row] = decode(a[i] >> 16);
  }
}

template <float (*decode)(uint32_t)>
void place_b(MatrixOperands& m, unsigned lane, const uint32_t (*b)[2]) {
  const unsigned group = lane / 4, pair = lane % 4 * 2;
  for (unsigned tile = 0; tile < m.tiles; ++tile) {
    float* column = m.b_NK[tile * 8 + group] + pair;
    column[0] = decode(b[tile][0] & 0xffffu);
    column[1] = decode(b[tile][0] >> 16);
    column[8] = decode(b[tile][1] & 0xffffu);
    column[9] = decode(b[tile][1] >> 16);
  }
}

void read_row(uint16_t (&row)[8], Warp& warp, int lane, const Loc& loc) {
  const void* p = warp.row[static_cast<size_t>(lane)];
  const Fiber& fiber = blk.fibers[static_cast<size_t>(warp.first + lane)];
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) {
    fail("ldmatrix: row address not 16-byte aligned", &loc, nullptr, &fiber);
  }
  if (!is_shared(p, 16)) fail("ldmatrix: row not in shared memory", &loc, nullptr, &fiber);
  if (checked) check_kernel_access(p, 16, AccessKind::read, {"ldmatrix", &loc, nullptr, &fiber, /*counted=*/false});
  std::memcpy(row, p, 16);
}

}  // namespace

void finish_ldmatrix(Warp& warp, const Meeting& meeting) {
  const bool transposed = meeting.kind == Collective::ldmatrix_trans;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t element[8][8];
    for (int row = 0; row < 8; ++row) read_row(element[row], warp, matrix * 8 + row, meeting.loc);
    for (int lane = 0; lane < 32; ++lane) {
      const int r = lane / 4, c = lane % 4 * 2;
      uint32_t word;
      if (transposed) {
        word = element[c][r] | uint32_t{element[c + 1][r]} << 16;
      } else {
        std::memcpy(&word, &element[r][c], sizeof word);
      }
      warp.words[static_cast<size_t>(lane)][static_cast<size_t>(matrix)] = word;
    }
  }
  count_ldmatrix(warp.row);
}

void finish_mma(Warp& warp) {
  multiply(warp.matrices);
  count_mma(warp.matrices.tiles);
}

void load_matrices(Collective kind, uint32_t (&words)[4], const void* row, const Loc& loc) {
  RuntimeScope scope;
  const size_t lane = current_lane();
  Warp& warp = *blk.warp;
  warp.row[lane] = row;
  meet(kind, kFullMask, loc);
  std::memcpy(words, warp.words[lane].data(), sizeof words);
}

void multiply_accumulate(Collective kind, unsigned tiles, float (*d)[4], const uint32_t (&a)[4], const uint32_t (*b)[2],
                         const Loc& loc) {
  RuntimeScope scope;
  const unsigned lane = current_lane();
  MatrixOperands& m = blk.warp->matrices;
  m.tiles = tiles;
  if (kind == Collective::mma_bf16) {
    place_a<decode_bf16>(m, lane, a);
    place_b<decode_bf16>(m, lane, b);
  } else {
    place_a<decode_f16>(m, lane, a);
    place_b<decode_f16>(m, lane, b);
  }
  meet(kind, kFullMask, loc);
  const unsigned group = lane / 4, pair = lane % 4 * 2;
  for (unsigned tile = 0; tile < tiles; ++tile) {
    const float(*sum)[16] = m.product_NM + tile * 8 + pair;
    d[tile][0] += sum[0][group];
    d[tile][1] += sum[1][group];
    d[tile][2] += sum[0][group + 8];
    d[tile][3] += sum[1][group + 8];
  }
}

}  // namespace simt
