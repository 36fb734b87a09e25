// One thread's work memory for tiles, whose size host and kernels share.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/rows/scratch_size.h"

namespace negative_cosine::cpu {

// Rows at neighbouring places that are handled together, see tile.h: at most so many,
// which are whole vectors of every width.
constexpr int kTileRows = 96;

// Rows that a tile meets at a time: the more, the less often its sums are read and
// written.
constexpr int kTilePanelRows = 64;

// A larger tile packs what it meets for more rows, smaller ones are more to share out
// among threads.
NEGATIVE_COSINE_INLINE int64_t rows_of_tile(int64_t places) {
  return places >= 32 * kTileRows ? kTileRows : kTileRows / 2;
}

// Bytes from one row of a tile to the next. Rows that are whole pages apart would share
// the same few lines of the cache.
NEGATIVE_COSINE_INLINE int64_t tile_row_bytes(int64_t dim, int64_t element_size) {
  const int64_t row = round_up(dim * element_size, 64);
  return row % 4096 == 0 ? row + 64 : row;
}

// A tile's rows, its sums and one panel (TileMemory), and the rows once more by lanes.
NEGATIVE_COSINE_INLINE int64_t tile_scratch_bytes(const LossParams& params) {
  const int64_t size = compute_size_of(params.data_type);
  return (2 * kTileRows + kTilePanelRows) * tile_row_bytes(params.dim, size) +
         kTileRows * round_up(params.dim * size, 64);
}

}  // namespace negative_cosine::cpu
