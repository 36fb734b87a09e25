// What the groups of warps have found of a tile's rows is put together at the end,
// through shared memory and in the order of the groups, so that the bits are the same
// in each run.
//
// Numbers of a row: each group sets its own, and after a barrier a thread for each row
// merges them. Sums of a row: in each round every group gives every group the sums of
// one fragment; each adds up what it got and goes on with it, so that all warps share
// the epilogue.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// `kNumbers` numbers of each row besides its sum.
template <typename Shape, int kNumbers>
class TileGroups {
 public:
  using Real = typename Shape::Real;
  using Fragment = Real[kFragmentElements];
  static constexpr bool kHasSeveral = Shape::kGroups > 1;
  static constexpr int kAllNumbers = kNumbers * Shape::kGroups * Shape::kRows;
  // Between two barriers each group gives every group the sums of one fragment.
  static constexpr int kSumsOfGroup = Shape::kGroups * Shape::kRows * kFragmentColumns;
  static constexpr int kAllSums = kHasSeveral ? Shape::kGroups * kSumsOfGroup : 0;
  static constexpr int kBytes =
      shared_bytes(kAllNumbers, sizeof(Real)) + shared_bytes(kAllSums, sizeof(Real));

  __device__ __forceinline__ explicit TileGroups(SharedArrays* arrays)
      : numbers_(arrays->template take<Real>(kAllNumbers)),
        sums_(kHasSeveral ? arrays->template take<Real>(kAllSums) : nullptr) {}

  // What the running group found of a lane's row; all lanes of the row know it, in each
  // of its slices.
  __device__ __forceinline__ void set_number(int which, int row, Real value) const {
    if (column_of_lane() != 0 || slice_of_warp<Shape>() != 0) return;
    number(which, group_of_warp<Shape>(), row_in_tile<Shape>(row)) = value;
  }
  // Of a row of the tile, behind a barrier.
  __device__ __forceinline__ Real number_of(int which, int group, int in_tile) const {
    return number(which, group, in_tile);
  }

  // Calls `work(v, totals, loaded)` for each fragment of the sums, in one of the
  // groups, with what `load(v)` returned before the groups waited for each other. All
  // threads of the block call it.
  template <typename Load, typename Work>
  __device__ __forceinline__ void for_each_total(const RowSums<Shape>& sums,
                                                 const Load& load,
                                                 const Work& work) const {
    if constexpr (!kHasSeveral) {
      constexpr int kAtOnce = sizeof(Real) == 8 ? 1 : 4;
      static_assert(kSumFragments<Shape> % kAtOnce == 0, "all fragments");
#pragma unroll
      for (int first = 0; first < kSumFragments<Shape>; first += kAtOnce) {
        decltype(load(0)) loaded[kAtOnce];  // in flight together
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) loaded[i] = load(first + i);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) work(first + i, sums[first + i], loaded[i]);
      }
    } else {
#pragma unroll
      for (int first = 0; first < kSumFragments<Shape>; first += Shape::kGroups) {
        const int v = first + group_of_warp<Shape>();
        // Of short rows there are fewer fragments than groups.
        const bool has_mine = v < kSumFragments<Shape>;
        decltype(load(0)) loaded;
        if (has_mine) loaded = load(v);
        if (first > 0) Shape::synchronise();  // all have read the round before
#pragma unroll
        for (int group = 0; group < Shape::kGroups; ++group) {
          if (first + group >= kSumFragments<Shape>) break;
          give(sums[first + group], group);
        }
        Shape::synchronise();
        if (!has_mine) continue;
        Fragment totals = {};
        add_up(totals);
        work(v, totals, loaded);
      }
    }
  }

 private:
  __device__ __forceinline__ SharedElement<Real>& number(int which, int group,
                                                         int row) const {
    return numbers_[(which * Shape::kGroups + group) * Shape::kRows + row];
  }

  // What a group gave to another. A lane's elements lie beside the other lanes' same
  // elements: 32 banks.
  __device__ __forceinline__ SharedElement<Real>* of_lane(int to, int from) const {
    const int first_row = from * Shape::kRows + first_row_of_warp<Shape>();
    return sums_ + to * kSumsOfGroup + first_row * kFragmentColumns + lane_of_thread();
  }

  __device__ __forceinline__ void give(const Fragment& sums, int to) const {
    auto* given = of_lane(to, group_of_warp<Shape>());
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      given[element * kWarpSize] = sums[element];
    }
  }

  __device__ __forceinline__ void add_up(Fragment& totals) const {
#pragma unroll
    for (int group = 0; group < Shape::kGroups; ++group) {
      const auto* given = of_lane(group_of_warp<Shape>(), group);
#pragma unroll
      for (int element = 0; element < kFragmentElements; ++element) {
        totals[element] += given[element * kWarpSize];
      }
    }
  }

  SharedElement<Real>* const numbers_;
  SharedElement<Real>* const sums_;
};

}  // namespace cuda
}  // namespace negative_cosine
