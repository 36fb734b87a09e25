// Sums of the same rows over different columns belong to the warps of different groups.
// At the end they are added up through shared memory, in the order of the groups, so
// that the bits are the same in each run. Each group gets the totals of some fragments
// and goes on with them, so that all warps share the epilogue.
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
  static constexpr int kAllNumbers =
      kHasSeveral ? kNumbers * Shape::kGroups * Shape::kRows : 0;
  // Of one part: the sums that each group gives away between two barriers.
  static constexpr int kPartFragments = 2;
  static constexpr int kSumsOfPart =
      Shape::kGroups * Shape::kRows * kPartFragments * kFragmentColumns;
  static constexpr int kAllSums = kHasSeveral ? 2 * kSumsOfPart : 0;
  static constexpr int kBytes =
      shared_bytes(kAllNumbers, sizeof(Real)) + shared_bytes(kAllSums, sizeof(Real));

  __device__ __forceinline__ explicit TileGroups(SharedArrays* arrays)
      : numbers_(kHasSeveral ? arrays->template take<Real>(kAllNumbers) : nullptr),
        sums_(kHasSeveral ? arrays->template take<Real>(kAllSums) : nullptr) {}

  // What the running group found of a lane's row; all four lanes know it. A barrier
  // has to follow before numbers are asked for.
  __device__ __forceinline__ void set_number(int which, int row, Real value) const {
    if (column_of_lane() == 0) {
      number(which, group_of_warp<Shape>(), row_in_tile<Shape>(row)) = value;
    }
  }
  __device__ __forceinline__ Real number_of(int which, int group, int row) const {
    return number(which, group, row_in_tile<Shape>(row));
  }

  // Calls `work(block, v, totals)` for each fragment of the sums, in one of the groups.
  // All threads of the block call it.
  template <typename Work>
  __device__ __forceinline__ void for_each_total(const WarpSums<Shape>& sums,
                                                 const Work& work) const {
    static_assert(kSumFragments<Shape> % kPartFragments == 0, "whole parts");
#pragma unroll
    for (int part = 0; part < kSumFragments<Shape> / kPartFragments; ++part) {
      const bool is_mine = part % Shape::kGroups == group_of_warp<Shape>();
      if constexpr (kHasSeveral) {
        if (!is_mine) {
          for_each_of_part(part, [&](int block, int v, int first) {
            give(sums[block][v], of_lane(part, group_of_warp<Shape>(), first));
          });
        }
        __syncthreads();
      }
      if (is_mine) {
        for_each_of_part(part, [&](int block, int v, int first) {
          Fragment totals;
          add_up(sums[block][v], part, first, totals);
          work(block, v, totals);
        });
      }
    }
  }

 private:
  __device__ __forceinline__ SharedElement<Real>& number(int which, int group,
                                                         int row) const {
    return numbers_[(which * Shape::kGroups + group) * Shape::kRows + row];
  }

  // Calls `work(block, v, first)`, where a lane's elements have the numbers from
  // `first` on.
  template <typename Work>
  __device__ __forceinline__ static void for_each_of_part(int part, const Work& work) {
#pragma unroll
    for (int block = 0; block < Shape::kRowBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < kPartFragments; ++i) {
        work(block, part * kPartFragments + i,
             (block * kPartFragments + i) * kFragmentElements);
      }
    }
  }

  // A lane's elements lie beside the other lanes' same elements: 32 banks. Parts take
  // two places in turn: of the part before the last, everything has been read.
  __device__ __forceinline__ SharedElement<Real>* of_lane(int part, int group,
                                                          int first) const {
    constexpr int kSumsOfWarp = Shape::kRowsOfWarp * kPartFragments * kFragmentColumns;
    const int warp = first_row_of_warp<Shape>() / Shape::kRowsOfWarp;
    return sums_ + part % 2 * kSumsOfPart +
           (warp * Shape::kGroups + group) * kSumsOfWarp + first * kWarpSize +
           lane_of_thread();
  }

  __device__ __forceinline__ static void give(const Fragment& sums,
                                              SharedElement<Real>* to) {
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      to[element * kWarpSize] = sums[element];
    }
  }

  __device__ __forceinline__ void add_up(const Fragment& own, int part, int first,
                                         Fragment& totals) const {
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      totals[element] = own[element];
    }
    if constexpr (kHasSeveral) {
      const int mine = part % Shape::kGroups;
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group) {
        if (group == mine) continue;
        const auto* given = of_lane(part, group, first);
#pragma unroll
        for (int element = 0; element < kFragmentElements; ++element) {
          totals[element] += given[element * kWarpSize];
        }
      }
    }
  }

  SharedElement<Real>* const numbers_;
  SharedElement<Real>* const sums_;  // of two parts
};

}  // namespace cuda
}  // namespace negative_cosine
