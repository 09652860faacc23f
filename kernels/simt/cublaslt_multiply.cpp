// The arithmetic of the emulated cuBLASLt: operands widened to f32 once, then tiles of 16 x 4 sums that the compiler
// keeps in vector registers. Sums run over K in ascending order; with partial sums, the second half of K is summed
// apart and added, as a split-K kernel does.
#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/integer.h"
#include "kernels/simt/cublaslt_problem.h"

namespace simt::lt {
namespace {

using trident::bf16;
using trident::f16;
using trident::round_up;

float read(const void* base, uint64_t i, cudaDataType type) {
  switch (type) {
    case CUDA_R_32F: return static_cast<const float*>(base)[i];
    case CUDA_R_16BF: return static_cast<float>(static_cast<const bf16*>(base)[i]);
    default: return static_cast<float>(static_cast<const f16*>(base)[i]);
  }
}

void write(void* base, uint64_t i, cudaDataType type, float x) {
  switch (type) {
    case CUDA_R_32F: static_cast<float*>(base)[i] = x; return;
    case CUDA_R_16BF: static_cast<bf16*>(base)[i] = bf16(x); return;
    default: static_cast<f16*>(base)[i] = f16(x); return;
  }
}

constexpr uint64_t kRows = 16, kColumns = 4;

/// op(X) in f32 as [k][outer], outer padded with zeros to a multiple of `to`. `outer_is_contiguous`: op(X)'s outer
/// dimension is X's rows.
std::vector<float> widen(const void* x, const Layout& l, bool outer_is_contiguous, uint64_t to) {
  const uint64_t outers = outer_is_contiguous ? l.rows : l.columns, ks = outer_is_contiguous ? l.columns : l.rows;
  const uint64_t width = round_up(outers, to), ld = static_cast<uint64_t>(l.ld);
  std::vector<float> wide(width * ks, 0.0f);
  for (uint64_t k = 0; k < ks; ++k) {
    for (uint64_t i = 0; i < outers; ++i) {
      wide[k * width + i] = read(x, outer_is_contiguous ? k * ld + i : i * ld + k, l.type);
    }
  }
  return wide;
}

/// sums[j][i] of a 16 x 4 tile over [k0, k1).
void tile(const float* a, uint64_t a_width, const float* b, uint64_t b_width, uint64_t k0, uint64_t k1,
          float (&sums)[kColumns][kRows]) {
  float local[kColumns][kRows] = {};
  for (uint64_t k = k0; k < k1; ++k) {
    const float* row = a + k * a_width;
    for (uint64_t j = 0; j < kColumns; ++j) {
      const float factor = b[k * b_width + j];
      for (uint64_t i = 0; i < kRows; ++i) local[j][i] += row[i] * factor;
    }
  }
  std::memcpy(sums, local, sizeof sums);
}

/// op(A) op(B) over [k0, k1) as [n][m].
std::vector<float> product(const Problem& p, const std::vector<float>& a, const std::vector<float>& b, uint64_t k0,
                           uint64_t k1) {
  const uint64_t m = p.m(), n = p.n(), a_width = round_up(m, kRows), b_width = round_up(n, kColumns);
  std::vector<float> out(m * n);
  for (uint64_t j = 0; j < n; j += kColumns) {
    for (uint64_t i = 0; i < m; i += kRows) {
      float sums[kColumns][kRows];
      tile(a.data() + i, a_width, b.data() + j, b_width, k0, k1, sums);
      for (uint64_t y = j; y < std::min(n, j + kColumns); ++y) {
        std::memcpy(&out[y * m + i], sums[y - j], std::min(kRows, m - i) * sizeof(float));
      }
    }
  }
  return out;
}

/// cublasLtEpilogue_t, note 5.
float gelu(float x) { return 0.5f * x * (1.0f + std::tanh(0.7978845608028654f * (x + 0.044715f * x * x * x))); }

/// Sums of op(A)'s rows or op(B)'s columns over K.
void bias_gradient(const Problem& p, const std::vector<float>& a, const std::vector<float>& b) {
  const bool of_a = p.desc.epilogue == CUBLASLT_EPILOGUE_BGRADA;
  const std::vector<float>& x = of_a ? a : b;
  const uint64_t count = of_a ? p.m() : p.n(), width = round_up(count, of_a ? kRows : kColumns);
  std::vector<float> sums(width, 0.0f);
  for (uint64_t k = 0; k < p.k(); ++k) {
    for (uint64_t i = 0; i < width; ++i) sums[i] += x[k * width + i];
  }
  for (uint64_t i = 0; i < count; ++i) write(p.desc.bias, i, p.d.type, sums[i]);
}

}  // namespace

void multiply(const Problem& p, const Addresses& at) {
  const std::vector<float> a = widen(at.a, p.a, p.desc.transpose_a == CUBLAS_OP_N, kRows);
  const std::vector<float> b = widen(at.b, p.b, p.desc.transpose_b != CUBLAS_OP_N, kColumns);
  const uint64_t m = p.m(), n = p.n(), k = p.k(), half = at.partial_sums != nullptr ? k / 2 : k;
  std::vector<float> sums = product(p, a, b, 0, half);
  if (at.partial_sums != nullptr) {
    const std::vector<float> rest = product(p, a, b, half, k);
    std::memcpy(at.partial_sums, rest.data(), rest.size() * sizeof(float));
    for (uint64_t i = 0; i < m * n; ++i) sums[i] += at.partial_sums[i];
  }
  for (uint64_t j = 0; j < n; ++j) {
    for (uint64_t i = 0; i < m; ++i) {
      float x = sums[j * m + i];
      if (at.beta != 0) x += at.beta * read(at.c, j * static_cast<uint64_t>(p.c.ld) + i, p.c.type);
      if (p.has_bias()) x += read(p.desc.bias, i, p.d.type);
      if (p.has_gelu()) {
        write(p.desc.aux, j * static_cast<uint64_t>(p.desc.aux_ld) + i, p.d.type, x);
        x = gelu(x);
      }
      write(at.d, j * static_cast<uint64_t>(p.d.ld) + i, p.d.type, x);
    }
  }
  if (p.has_bias_gradient()) bias_gradient(p, a, b);
}

}  // namespace simt::lt
