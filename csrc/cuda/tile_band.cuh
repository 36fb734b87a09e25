// The band of a tile: which of a block's columns a row meets, where row r meets columns
// r + first .. r + last.
#pragma once

#include "cuda/tile_shape.cuh"

namespace negative_cosine {
namespace cuda {

// Whether a warp's 16 rows meet any of a block's columns, and in which pairs of tiles.
template <typename Shape>
__device__ __forceinline__ bool find_met_pairs(int64_t first, int64_t last,
                                               int64_t block_start,
                                               MetPairs<Shape>& is_met) {
  constexpr int kWidth = 2 * kColumnsOfTile;
  const int64_t own_row = first_row_of_warp<Shape>();
  bool any = false;
#pragma unroll
  for (int pair = 0; pair < Shape::kColumns / kWidth; ++pair) {
    const int64_t start = block_start + pair * kWidth;
    is_met[pair] =
        start + kWidth > own_row + first && start <= own_row + kRowsOfWarp - 1 + last;
    any |= is_met[pair];
  }
  return any;
}

// A lane's columns of a block as bits: bit 8 t + j is its column j of tile t, so that a
// bit's number is the distance from the lane's first column.
template <typename Shape>
constexpr uint32_t kColumnsOfLane = 0x03030303u >> (32 - Shape::kColumns);

// Those of the lane's columns that are in the band of a row.
template <typename Shape>
__device__ __forceinline__ uint32_t columns_of_band(int64_t first, int64_t last,
                                                    int64_t block_start, int row) {
  const int64_t origin = row - block_start - column_of_lane();
  const auto begin = static_cast<int>(max(static_cast<long long>(origin + first), 0ll));
  const auto end = static_cast<int>(min(static_cast<long long>(origin + last + 1),
                                        static_cast<long long>(Shape::kColumns)));
  if (begin >= end) return 0;
  return kColumnsOfLane<Shape> & 0xffffffffu << begin & 0xffffffffu >> (32 - end);
}

__device__ __forceinline__ bool has_column(uint32_t columns, int tile, int element) {
  return (columns >> (tile * kColumnsOfTile + element % 2) & 1) != 0;
}

// Without the columns for which `is_dropped(column of the block)`. Rare, so one by one.
template <typename Shape, typename IsDropped>
__device__ __forceinline__ uint32_t without(uint32_t columns,
                                            const IsDropped& is_dropped) {
#pragma unroll 1
  for (uint32_t left = columns; left != 0; left &= left - 1) {
    const int bit = __ffs(static_cast<int>(left)) - 1;
    if (is_dropped(column_of_lane() + bit)) columns &= ~(1u << bit);
  }
  return columns;
}

}  // namespace cuda
}  // namespace negative_cosine
