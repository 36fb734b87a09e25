// The band of a tile: which columns of a panel belong to a row. They lie side by side,
// at a distance from the row's place that is the same for all rows.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// A lane's columns of a panel as bits: bit 8 f + j is its column j of fragment f, so
// that a bit's number is the distance from the lane's first column.
template <typename Shape>
constexpr uint32_t kColumnsOfLane = 0x03030303u >> (32 - Shape::kColumnsOfWarp);

// The part of a band in the running warp's rows and columns, of which the first is
// `start`: columns first + p .. end - 1 + p of a row at place p. `place_of(row of the
// tile)` grows with the row. Places, first and end are at most 2^31.
template <typename Shape, typename PlaceOf>
class BandOfPanel {
 public:
  __device__ __forceinline__ BandOfPanel(const PlaceOf& place_of, uint32_t first,
                                         uint32_t end, uint32_t start)
      : place_of_(place_of), first_(first), end_(end), start_(start) {}

  // Whether no row has any of the columns.
  __device__ __forceinline__ bool is_empty() const {
    return inside_panel(place(0) + first_) == Shape::kColumnsOfWarp ||
           inside_panel(place(kRowsOfWarp - 1) + end_) == 0;
  }

  // Whether each row has each of the columns.
  __device__ __forceinline__ bool is_whole() const {
    return inside_panel(place(kRowsOfWarp - 1) + first_) == 0 &&
           inside_panel(place(0) + end_) == Shape::kColumnsOfWarp;
  }

  // Those of the lane's columns that its row has.
  __device__ __forceinline__ uint32_t columns_of(int row) const {
    const uint32_t place_of_row = place(row_in_warp(row));
    const int begin = inside_panel(place_of_row + first_);
    const int end = inside_panel(place_of_row + end_);
    if (begin >= end) return 0;
    const uint32_t columns = 0xffffffffu << begin & 0xffffffffu >> (32 - end);
    return columns >> column_of_lane() & kColumnsOfLane<Shape>;
  }

 private:
  __device__ __forceinline__ uint32_t place(int in_warp) const {
    return place_of_(first_row_of_warp<Shape>() + in_warp);
  }
  __device__ __forceinline__ int inside_panel(uint32_t column) const {
    constexpr uint32_t kBehind = Shape::kColumnsOfWarp;
    return static_cast<int>(min(max(column, start_) - start_, kBehind));
  }

  const PlaceOf place_of_;
  const uint32_t first_;
  const uint32_t end_;
  const uint32_t start_;
};

// Row r is at place r.
struct PlacesSideBySide {
  __device__ __forceinline__ uint32_t operator()(int row) const {
    return static_cast<uint32_t>(row);
  }
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
