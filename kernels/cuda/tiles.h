// Matrices in tiles: blocks of 32 lanes along a row, each with a pack of kWidth columns, by 8 rows. What one thread
// meets is always the same columns, so that a row vector (bias, position) is read once and serves many rows.
#pragma once

#include "kernels/cuda/element.h"
#include "kernels/cuda/launch.h"

namespace trident::cuda {

constexpr int kTileLanes = 32, kTileRows = 8, kTileThreads = kTileLanes * kTileRows;

/// Tiles lie in blockIdx.x, columns first: the other grid axes end at 65535.
struct Tiling {
  int64_t columns;
  unsigned across;  ///< tiles along a row

  Tiling(int64_t columns_of_matrix, int width)
      : columns(columns_of_matrix), across(static_cast<unsigned>(ceil_div(columns_of_matrix, kTileLanes * width))) {}

  dim3 grid(int64_t tiles_down) const { return {static_cast<unsigned>(across * tiles_down)}; }

  /// First column of this thread's pack; a multiple of kWidth, perhaps beyond the end.
  template <int kWidth>
  SIMT_DEV int64_t column() const {
    return (static_cast<int64_t>(blockIdx.x % across) * kTileLanes + threadIdx.x % kTileLanes) * kWidth;
  }
  /// Which tile from the top.
  SIMT_DEV int64_t down() const { return blockIdx.x / across; }
};

/// This thread's row within its tile.
SIMT_DEV int tile_row() { return static_cast<int>(threadIdx.x) / kTileLanes; }

}  // namespace trident::cuda
