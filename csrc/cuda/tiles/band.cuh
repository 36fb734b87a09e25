// The band of a tile: which columns of a panel belong to a row, where those of row r
// are r + first .. r + last.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// A lane's columns of a panel as bits: bit 8 f + j is its column j of fragment f, so
// that a bit's number is the distance from the lane's first column.
template <typename Shape>
constexpr uint32_t kColumnsOfLane = 0x03030303u >> (32 - Shape::kColumnsOfWarp);

// The part of the band in the running warp's rows and columns, of which the first is
// `start`: columns begin + r .. end - 1 + r of row r.
template <typename Shape>
class BandOfPanel {
 public:
  __device__ __forceinline__ BandOfPanel(int64_t first, int64_t last, int64_t start)
      : begin_(near_panel(first_row_of_warp<Shape>() + first - start)),
        end_(near_panel(first_row_of_warp<Shape>() + last + 1 - start)) {}

  // Whether no row has any of the columns.
  __device__ __forceinline__ bool is_empty() const {
    return begin_ >= Shape::kColumnsOfWarp || end_ + kRowsOfWarp <= 1;
  }

  // Whether each row has each of the columns.
  __device__ __forceinline__ bool is_whole() const {
    return begin_ + kRowsOfWarp <= 1 && end_ >= Shape::kColumnsOfWarp;
  }

  // Those of the lane's columns that its row has.
  __device__ __forceinline__ uint32_t columns_of(int row) const {
    const int shift = row_in_warp(row) - column_of_lane();
    const int begin = max(begin_ + shift, 0);
    const int end = min(end_ + shift, Shape::kColumnsOfWarp);
    if (begin >= end) return 0;
    return kColumnsOfLane<Shape> & 0xffffffffu << begin & 0xffffffffu >> (32 - end);
  }

 private:
  // All columns farther from the panel than a warp's rows reach are the same to it.
  __device__ __forceinline__ static int near_panel(int64_t column) {
    constexpr long long kBefore = -kRowsOfWarp;
    constexpr long long kBehind = Shape::kColumnsOfWarp;
    return static_cast<int>(min(max(static_cast<long long>(column), kBefore), kBehind));
  }

  const int begin_;
  const int end_;
};

__device__ __forceinline__ bool has_column(uint32_t columns, int fragment,
                                           int element) {
  return (columns >> (fragment * kFragmentColumns + element % 2) & 1) != 0;
}

// Keeps a lane's numbers in the given columns of its two rows, and overwrites the
// others with `other`.
template <typename Shape>
__device__ __forceinline__ void keep_columns(const uint32_t (&columns)[2],
                                             typename Shape::Real other,
                                             Products<Shape>& numbers) {
  for_each_product<Shape>([&](int fragment, int element, int half, int) {
    if (!has_column(columns[half], fragment, element))
      numbers[fragment][element] = other;
  });
}

// The columns without those for which `is_dropped(column of the warp's)`, which is
// asked of one after another: few need it.
template <typename IsDropped>
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
