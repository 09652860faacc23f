#include "kernels/cpu/amx.h"

#include "core/base/error.h"

namespace trident::cpu {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

AmxTiles::AmxTiles() {
  struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  // Static: to the compiler the instruction reads only the first word, and the rest of a local could be dropped.
  static constexpr TileConfig kConfig;
  static_assert(sizeof kConfig == 64);
  _tile_loadconfig(&kConfig);
}

AmxTiles::~AmxTiles() { _tile_release(); }

template <int64_t parts>
void amx_product(int64_t rows, int64_t cols, int64_t k, const bf16* a, int64_t a_stride, int64_t a_part,
                 const uint32_t* b, int64_t b_words, int64_t b_part, float* c, int64_t c_stride, bool accumulate) {
  constexpr int64_t kHalf = kAmxStep / 2;
  constexpr bool kStraight = parts == 1;  // c's own tiles take the sums
  const int64_t a_bytes = a_stride * 2, b_bytes = b_words * 4;
  alignas(64) float block[kStraight ? 1 : kAmxStep * kAmxStep];
  // The compiler's tile loads do not say that they read memory.
  __asm__ volatile("" ::: "memory");
  for (int64_t i = 0; i < rows; i += kAmxStep) {
    for (int64_t j = 0; j < cols; j += kAmxStep) {
      float* c_tile = c + i * c_stride + j;
      const bool aside = accumulate && !kStraight;
      float* top = aside ? block : c_tile;
      const int64_t stride = aside ? kAmxStep : c_stride, bytes = stride * 4;
      float* low = top + kHalf * stride;
      if (accumulate && kStraight) {
        _tile_loadd(0, top, bytes);
        _tile_loadd(1, top + kHalf, bytes);
        _tile_loadd(2, low, bytes);
        _tile_loadd(3, low + kHalf, bytes);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      const bf16* a_row = a + i * a_stride;
      const uint32_t* b_row = b + j;
      for (int64_t p = 0; p < k; p += kAmxStep, a_row += kAmxStep, b_row += kHalf * b_words) {
        multiply_parts<parts>(
            [&](int64_t part) {
              _tile_loadd(4, a_row + part * a_part, a_bytes);
              _tile_loadd(5, a_row + part * a_part + kHalf * a_stride, a_bytes);
            },
            [&](int64_t part) {
              _tile_loadd(6, b_row + part * b_part, b_bytes);
              _tile_loadd(7, b_row + part * b_part + kHalf, b_bytes);
            });
      }
      _tile_stored(0, top, bytes);
      _tile_stored(1, top + kHalf, bytes);
      _tile_stored(2, low, bytes);
      _tile_stored(3, low + kHalf, bytes);
      if (!aside) continue;
      __asm__ volatile("" ::: "memory");
      for (int64_t r = 0; r < kAmxStep; ++r) {
        for (int64_t q = 0; q < kAmxStep; q += kLanes) {
          store(c_tile + r * c_stride + q, load(c_tile + r * c_stride + q) + load(block + r * kAmxStep + q));
        }
      }
    }
  }
}

template void amx_product<1>(int64_t, int64_t, int64_t, const bf16*, int64_t, int64_t, const uint32_t*, int64_t,
                             int64_t, float*, int64_t, bool);
template void amx_product<3>(int64_t, int64_t, int64_t, const bf16*, int64_t, int64_t, const uint32_t*, int64_t,
                             int64_t, float*, int64_t, bool);

#else

AmxTiles::AmxTiles() { ensure(false, "this build has no AMX"); }
AmxTiles::~AmxTiles() = default;

#endif

}  // namespace trident::cpu
