// The band of a tile: which of a block's columns a row meets, where row r meets columns
// r + first .. r + last.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// A lane's columns of a block as bits: bit 8 t + j is its column j of tile t, so that a
// bit's number is the distance from the lane's first column.
template <typename Shape>
constexpr uint32_t kColumnsOfLane = 0x03030303u >> (32 - Shape::kColumns);

// The band where the running warp's rows meet a block: its row r meets the block's
// columns begin + r .. end - 1 + r.
template <typename Shape>
class BandOfBlock {
 public:
  __device__ __forceinline__ BandOfBlock(int64_t first, int64_t last,
                                         int64_t block_start)
      : begin_(near_block(first_row_of_warp<Shape>() + first - block_start)),
        end_(near_block(first_row_of_warp<Shape>() + last + 1 - block_start)) {}

  // Whether no row meets any of the columns.
  __device__ __forceinline__ bool is_empty() const {
    return begin_ >= Shape::kColumns || end_ + kRowsOfWarp <= 1;
  }

  // Whether each row meets each of the columns.
  __device__ __forceinline__ bool is_whole() const {
    return begin_ + kRowsOfWarp <= 1 && end_ >= Shape::kColumns;
  }

  // Those of the lane's columns that its row meets.
  __device__ __forceinline__ uint32_t columns_of(int half) const {
    const int shift = row_of_lane() + 8 * half - column_of_lane();
    const int begin = max(begin_ + shift, 0);
    const int end = min(end_ + shift, Shape::kColumns);
    if (begin >= end) return 0;
    return kColumnsOfLane<Shape> & 0xffffffffu << begin & 0xffffffffu >> (32 - end);
  }

 private:
  // Farther from the block than a warp's rows reach is all the same.
  __device__ __forceinline__ static int near_block(int64_t column) {
    constexpr long long kBefore = -kRowsOfWarp;
    constexpr long long kBehind = Shape::kColumns;
    return static_cast<int>(min(max(static_cast<long long>(column), kBefore), kBehind));
  }

  const int begin_;
  const int end_;
};

__device__ __forceinline__ bool has_column(uint32_t columns, int tile, int element) {
  return (columns >> (tile * kColumnsOfTile + element % 2) & 1) != 0;
}

// Leaves of a lane's numbers those of its two rows' columns, and puts `other` in place
// of the others.
template <typename Shape>
__device__ __forceinline__ void keep_columns(const uint32_t (&columns)[2],
                                             typename Shape::Real other,
                                             Products<Shape>& numbers) {
  for_each_product<Shape>([&](int tile, int element, int half, int) {
    if (!has_column(columns[half], tile, element)) numbers[tile][element] = other;
  });
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
