// One thread's work memory for tiles, whose size host and kernels share.
#pragma once

#include <cstdint>

#include "core/params.h"
#include "cpu/rows/scratch_size.h"

namespace negative_cosine::cpu {

// Rows at neighbouring places that are handled together, see tile.h.
constexpr int kTileRows = 48;

// A tile's rows, its sums and one panel, all padded (TileMemory).
NEGATIVE_COSINE_INLINE int64_t tile_scratch_bytes(const LossParams& params) {
  const int64_t row = round_up(params.dim * compute_size_of(params.data_type), 64);
  return (2 * kTileRows + kPanelRows) * row;
}

}  // namespace negative_cosine::cpu
