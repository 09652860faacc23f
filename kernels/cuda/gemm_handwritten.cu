// The hand-written GEMM: what multiplies when cuBLASLt has no algorithm for a call, at any shape and alignment.
//
// bf16 and f16: a block of four warps makes a 64 x 64 tile of c, each warp 32 x 32 of it by tensor cores (mma.sync
// m16n8k16, f32 sums). Tiles of a and b, 64 deep in K, go through three stages of shared memory filled by cp.async.
// f32: a block makes a 64 x 64 tile by fused multiply-adds, 4 x 4 a thread, from two stages; no tensor core rounds an
// f32 operand, since f32 is the yardstick.
//
// Policy: a tile is kept as it lies in memory, so all four transposes read global memory along its rows: 64 lines of 64
// elements, whose lines are K or, for the operand whose rows are K, the other dimension. 16-byte chunk i of line r lies
// at i ^ (r % 8): eight lines of one column of chunks, what ldmatrix reads at a time, are in eight different banks.
// Operands that allow no 16-byte access are fetched by elements. Every sum runs over K in ascending order.
//
// Legend: M rows and N columns of c, K the inner dimension.
#include "kernels/cuda/element.h"
#include "kernels/cuda/families.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {
namespace {

constexpr int kTile = 64;  // of M, N and K
constexpr int kStages = 3;
constexpr int kMmaThreads = 128;
constexpr int kChunks = kTile / 8;             // 16-byte chunks of a line
constexpr int kTileBytes = kTile * kTile * 2;  // of one operand
constexpr size_t kMmaShared = size_t{2} * kStages * kTileBytes;

/// What both kernels are told.
template <class T>
struct Problem {
  void* c;  ///< of T, or of float when c_is_float: a test at the very end, cheaper than twice as many kernels
  bool c_is_float;
  const T* a;
  const T* b;
  const T* bias_N;  ///< may be null
  int64_t m, n, k;
  unsigned tiles_n;
  bool accumulate;
};

SIMT_DEV void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __nv_bfloat16) {
  simt::mma_bf16_16816(d, a, b0, b1);
}
SIMT_DEV void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half) {
  simt::mma_f16_16816(d, a, b0, b1);
}

/// Byte offset of chunk `chunk` of line `line` in a tile.
SIMT_DEV int chunk_offset(int line, int chunk) { return (line * kChunks + (chunk ^ (line & 7))) * 16; }

/// Starts filling a tile with lines [line0, line0 + 64) and columns [column0, column0 + 64) of a stored matrix; what
/// lies outside the matrix becomes 0.
template <bool kVector, class T>
SIMT_DEV void fetch_tile(unsigned char* tile, const T* matrix, int64_t lines, int64_t width, int64_t line0,
                         int64_t column0) {
#pragma unroll(kVector ? 4 : 1)
  for (int i = 0; i < kTile * kChunks / kMmaThreads; ++i) {
    const int piece = i * kMmaThreads + static_cast<int>(threadIdx.x);
    const int line = piece / kChunks, chunk = piece % kChunks;
    const int64_t row = line0 + line, column = column0 + chunk * 8;
    unsigned char* to = tile + chunk_offset(line, chunk);
    if constexpr (kVector) {  // the width is a multiple of 8: a chunk lies inside or outside
      const bool inside = row < lines && column < width;
      simt::cp_async16(to, inside ? matrix + row * width + column : matrix, inside);
    } else {
      union {
        uint4 bits;
        T element[8];
      } chunk_of;
      chunk_of.bits = uint4{0, 0, 0, 0};
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        if (row < lines && column + j < width) chunk_of.element[j] = matrix[row * width + column + j];
      }
      simt::st128(to, chunk_of.bits);
    }
  }
}

/// Fragments of 16 x 16 elements of an operand: outer dimension (M or N) from `outer`, K from `k`. The four 8 x 8
/// matrices come in the order (outer, k), (outer + 8, k), (outer, k + 8), (outer + 8, k + 8): the a operand of mma; for
/// b, whose fragments are 8 wide, registers 0 and 2 are one and 1 and 3 the next.
template <bool kLinesAreK>
SIMT_DEV void load_fragment(uint32_t (&fragment)[4], const unsigned char* tile, int outer, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (kLinesAreK) {
    const int line = k + (lane & 7) + ((lane >> 4) << 3), chunk = outer / 8 + ((lane >> 3) & 1);
    simt::ldmatrix_x4_trans(fragment, tile + chunk_offset(line, chunk));
  } else {
    const int line = outer + (lane & 15), chunk = k / 8 + (lane >> 4);
    simt::ldmatrix_x4(fragment, tile + chunk_offset(line, chunk));
  }
}

template <class C>
SIMT_DEV void put(C* c, float sum, bool accumulate) {
  *c = from_float<C>(accumulate ? to_float(*c) + sum : sum);
}

/// The new value of one element of c.
template <class T>
SIMT_DEV void finish(const Problem<T>& p, int64_t row, int64_t column, float sum) {
  if (row >= p.m || column >= p.n) return;
  if (p.bias_N != nullptr) sum += to_float(p.bias_N[column]);
  const int64_t i = row * p.n + column;
  if (p.c_is_float) return put(static_cast<float*>(p.c) + i, sum, p.accumulate);
  put(static_cast<T*>(p.c) + i, sum, p.accumulate);
}

/// kTransposeA: a is stored [K, M]; kTransposeB: b is stored [N, K].
template <class T, bool kTransposeA, bool kTransposeB, bool kVector>
__global__ void __launch_bounds__(kMmaThreads) gemm_mma_kernel(Problem<T> p) {
  SIMT_DYN_SMEM(unsigned char, shared);
  const int64_t m0 = int64_t{blockIdx.x / p.tiles_n} * kTile, n0 = int64_t{blockIdx.x % p.tiles_n} * kTile;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_m = warp / 2 * 32, warp_n = warp % 2 * 32;
  const int tiles_k = static_cast<int>((p.k + kTile - 1) / kTile);

  const auto fetch = [&](int tile) {
    unsigned char* a_tile = shared + tile % kStages * 2 * kTileBytes;
    const int64_t k0 = static_cast<int64_t>(tile) * kTile;
    fetch_tile<kVector>(a_tile, p.a, kTransposeA ? p.k : p.m, kTransposeA ? p.m : p.k, kTransposeA ? k0 : m0,
                        kTransposeA ? m0 : k0);
    fetch_tile<kVector>(a_tile + kTileBytes, p.b, kTransposeB ? p.n : p.k, kTransposeB ? p.k : p.n,
                        kTransposeB ? n0 : k0, kTransposeB ? k0 : n0);
  };
#pragma unroll
  for (int tile = 0; tile < kStages - 1; ++tile) {
    if (tile < tiles_k) fetch(tile);
    simt::cp_async_commit();
  }

  float sum[2][4][4] = {};
  for (int tile = 0; tile < tiles_k; ++tile) {
    simt::cp_async_wait<kStages - 2>();
    __syncthreads();  // the tile is there for all, and all have left the stage that is filled next
    if (tile + kStages - 1 < tiles_k) fetch(tile + kStages - 1);
    simt::cp_async_commit();

    const unsigned char* a_tile = shared + tile % kStages * 2 * kTileBytes;
    const unsigned char* b_tile = a_tile + kTileBytes;
    const int64_t left = p.k - static_cast<int64_t>(tile) * kTile;
#pragma unroll
    for (int k = 0; k < kTile; k += 16) {
      if (k >= left) break;  // the rest of the tile is zeros
      uint32_t a[2][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_fragment<kTransposeA>(a[i], a_tile, warp_m + 16 * i, k);
        load_fragment<!kTransposeB>(b[i], b_tile, warp_n + 16 * i, k);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) mma(sum[i][j], a[i], b[j / 2][j % 2], b[j / 2][j % 2 + 2], T());
      }
    }
  }

  const int64_t row0 = m0 + warp_m + lane / 4, column0 = n0 + warp_n + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        finish(p, row0 + 16 * i + e / 2 * 8, column0 + 8 * j + e % 2, sum[i][j][e]);
      }
    }
  }
}

constexpr int kFmaThreads = 256;
constexpr int kFmaDepth = 16;
constexpr int kFmaLine = kTile + 4;  // floats; rows of a tile shifted by four banks, still aligned to 16 bytes

/// One thread's share of the next f32 tile: kFmaDepth x 64 elements, read along the rows of the stored matrix.
template <bool kLinesAreK>
struct FmaShare {
  static constexpr int kCount = kTile * kFmaDepth / kFmaThreads, kSector = 8;
  static_assert(kFmaDepth == 2 * kSector && kTile * kSector == 2 * kFmaThreads);
  float value[kCount];

  // Across the lines a warp takes a sector of each of 4: rows of the tile begin 4 banks apart, so that it then stores
  // to 32 of them.
  SIMT_DEV static int k_of(int i) {
    const int thread = static_cast<int>(threadIdx.x);
    return kLinesAreK ? (i * kFmaThreads + thread) / kTile : thread % kSector + i % 2 * kSector;
  }
  SIMT_DEV static int outer_of(int i) {
    const int thread = static_cast<int>(threadIdx.x);
    return kLinesAreK ? (i * kFmaThreads + thread) % kTile : thread / kSector + i / 2 * (kFmaThreads / kSector);
  }
  SIMT_DEV void fetch(const float* matrix, int64_t outers, int64_t ks, int64_t outer0, int64_t k0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int64_t outer = outer0 + outer_of(i), k = k0 + k_of(i);
      value[i] = outer < outers && k < ks ? matrix[kLinesAreK ? k * outers + outer : outer * ks + k] : 0.0f;
    }
  }
  SIMT_DEV void put(float (*tile)[kFmaLine]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) tile[k_of(i)][outer_of(i)] = value[i];
  }
};

/// Four neighbours of a tile's row.
SIMT_DEV void load4(float (&value)[4], const float* p) {
  const uint4 bits = simt::ld128(p);
  value[0] = __uint_as_float(bits.x);
  value[1] = __uint_as_float(bits.y);
  value[2] = __uint_as_float(bits.z);
  value[3] = __uint_as_float(bits.w);
}

template <bool kTransposeA, bool kTransposeB>
__global__ void __launch_bounds__(kFmaThreads) gemm_fma_kernel(Problem<float> p) {
  __shared__ __align__(16) float a_tile[2][kFmaDepth][kFmaLine];
  __shared__ __align__(16) float b_tile[2][kFmaDepth][kFmaLine];
  const int64_t m0 = int64_t{blockIdx.x / p.tiles_n} * kTile, n0 = int64_t{blockIdx.x % p.tiles_n} * kTile;
  const int tile_m = static_cast<int>(threadIdx.x) / 16 * 4, tile_n = static_cast<int>(threadIdx.x) % 16 * 4;

  FmaShare<kTransposeA> a_share;
  FmaShare<!kTransposeB> b_share;
  a_share.fetch(p.a, p.m, p.k, m0, 0);
  b_share.fetch(p.b, p.n, p.k, n0, 0);
  float sum[4][4] = {};
  int stage = 0;
  for (int64_t k0 = 0; k0 < p.k; k0 += kFmaDepth, stage ^= 1) {
    a_share.put(a_tile[stage]);
    b_share.put(b_tile[stage]);
    __syncthreads();                                   // the stage is full, and nobody reads the other one any more
    a_share.fetch(p.a, p.m, p.k, m0, k0 + kFmaDepth);  // beyond K: zeros, without reading
    b_share.fetch(p.b, p.n, p.k, n0, k0 + kFmaDepth);
#pragma unroll
    for (int k = 0; k < kFmaDepth; ++k) {
      float a[4], b[4];
      load4(a, &a_tile[stage][k][tile_m]);
      load4(b, &b_tile[stage][k][tile_n]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) finish(p, m0 + tile_m + i, n0 + tile_n + j, sum[i][j]);
  }
}

/// Calls f with two flags as constants.
template <class F>
void with_transposes(const GemmArgs& args, F f) {
  const auto second = [&](auto transpose_a) {
    if (args.transpose_b) return f(transpose_a, std::true_type{});
    f(transpose_a, std::false_type{});
  };
  if (args.transpose_a) return second(std::true_type{});
  second(std::false_type{});
}

template <class T>
Problem<T> problem_of(const GemmArgs& args) {
  return {.c = args.c_MN.data,
          .c_is_float = args.c_MN.dtype == DType::f32,
          .a = at<const T>(args.a),
          .b = at<const T>(args.b),
          .bias_N = args.bias_N.defined() ? at<const T>(args.bias_N) : nullptr,
          .m = args.c_MN.dim[0],
          .n = args.c_MN.dim[1],
          .k = args.transpose_a ? args.a.dim[0] : args.a.dim[1],
          .tiles_n = static_cast<unsigned>(ceil_div(args.c_MN.dim[1], kTile)),
          .accumulate = args.accumulate};
}

template <class P>
dim3 grid_of(const P& p) {
  const int64_t tiles = ceil_div(p.m, kTile) * p.tiles_n;
  ensure(tiles <= 0x7fffffff, "gemm: c has at most 2^31 - 1 tiles");
  return dim3(static_cast<unsigned>(tiles));
}

void launch_fma(cudaStream_t stream, const GemmArgs& args) {
  const Problem<float> p = problem_of<float>(args);
  with_transposes(args, [&](auto a, auto b) {
    check_launch(simt::launch(gemm_fma_kernel<a.value, b.value>, grid_of(p), dim3(kFmaThreads), 0, stream, p), "gemm");
  });
}

template <class T>
void launch_mma(cudaStream_t stream, const GemmArgs& args) {
  const Problem<T> p = problem_of<T>(args);
  const bool vector = vectorizable(args.a, args.a.dim[1]) && vectorizable(args.b, args.b.dim[1]);
  with_transposes(args, [&](auto a, auto b) {
    const auto kernel =
        vector ? gemm_mma_kernel<T, a.value, b.value, true> : gemm_mma_kernel<T, a.value, b.value, false>;
    check_launch(simt::launch(kernel, grid_of(p), dim3(kMmaThreads), kMmaShared, stream, p), "gemm");
  });
}

}  // namespace

void gemm_handwritten(cudaStream_t stream, const GemmArgs& args) {
  ensure(args.c_MN.numel() > 0, "gemm: the caller leaves empty products out");
  switch (args.a.dtype) {
    case DType::f32: return launch_fma(stream, args);
    case DType::bf16: return launch_mma<__nv_bfloat16>(stream, args);
    case DType::f16: return launch_mma<__half>(stream, args);
    default: ensure(false, "gemm: the CUDA kernels multiply f32, bf16 and f16");
  }
}

}  // namespace trident::cuda
