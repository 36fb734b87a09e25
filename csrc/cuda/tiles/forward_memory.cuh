// A block's shared memory in the forward pass: the tile's queries, two panels of
// documents, and what is counted.
#pragma once

#include "cuda/tiles/groups.cuh"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/places.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// What each group of warps counts of its rows, where that is asked for: the sums leave
// no registers for it. The first of a row's four lanes keeps it, of the first slice.
template <typename Shape>
class TileCounts {
 public:
  static constexpr int kCounts = Shape::kGroups * Shape::kRows;
  static constexpr int kBytes = 2 * shared_bytes(kCounts, sizeof(int32_t));

  __device__ __forceinline__ explicit TileCounts(SharedArrays* arrays)
      : kept_(arrays->template take<int32_t>(kCounts)),
        larger_(arrays->template take<int32_t>(kCounts)) {
    if constexpr (Shape::kIsOfWarpgroups) {
      // A barrier follows, so it need not be the keeper, who would hold the addresses.
      static_assert(kCounts <= Shape::kThreads, "a thread for each count");
      const int count = static_cast<int>(threadIdx.x);
      if (count < kCounts) kept_[count] = larger_[count] = 0;
    } else {
      if (!is_keeper()) return;
      for_each_row_of_lane([&](int row) {
        kept_[number(group_of_warp<Shape>(), row)] = 0;
        larger_[number(group_of_warp<Shape>(), row)] = 0;
      });
    }
  }

  // What a lane found of its two rows in a panel: at most 32 of each, so that all four
  // are added up over the lanes of a row in one word.
  __device__ __forceinline__ void add(const uint32_t (&kept)[2],
                                      const uint32_t (&larger)[2]) const {
    static_assert(Shape::kColumnsOfWarp < 256, "a number of eight bits");
    const uint32_t counts =
        sum_over_row(kept[0] | kept[1] << 8 | larger[0] << 16 | larger[1] << 24);
    if (!is_keeper()) return;
    for_each_row_of_lane([&](int row) {
      const int of_row = number(group_of_warp<Shape>(), row);
      kept_[of_row] += static_cast<int32_t>(counts >> 8 * row & 0xffu);
      larger_[of_row] += static_cast<int32_t>(counts >> (16 + 8 * row) & 0xffu);
    });
  }

  // Of all groups, behind a barrier.
  __device__ __forceinline__ int32_t kept(int in_tile) const {
    return sum(kept_, in_tile);
  }
  __device__ __forceinline__ int32_t larger(int in_tile) const {
    return sum(larger_, in_tile);
  }

 private:
  __device__ __forceinline__ static bool is_keeper() {
    return has_rows_of_tile<Shape>() && column_of_lane() == 0 &&
           slice_of_warp<Shape>() == 0;
  }
  __device__ __forceinline__ static int number(int group, int row) {
    return group * Shape::kRows + row_in_tile<Shape>(row);
  }
  __device__ __forceinline__ static int32_t sum(const SharedElement<int32_t>* counts,
                                                int in_tile) {
    int32_t total = 0;
    for (int group = 0; group < Shape::kGroups; ++group) {
      total += counts[group * Shape::kRows + in_tile];
    }
    return total;
  }

  SharedElement<int32_t>* const kept_;
  SharedElement<int32_t>* const larger_;  // logits than the positive's
};

// What a group finds of a row besides its sum; the last two only where weights are
// rounded (rounding.cuh).
enum ForwardNumber { kShift, kWeightSum, kCosineSum, kLostWeights, kAlongQuery };
template <typename Shape>
constexpr int kForwardNumbers = Shape::kRoundsWeights ? 5 : 3;

// What a row's direction is made of, besides its elements:
// (positive * doc + candidates * sum - query * along) * norm, where the sums are those
// relative to `shift`.
enum DirectionFactor {
  kMergedShift,
  kPositiveFactor,
  kCandidatesFactor,
  kAlongFactor,
  kDirectionFactors
};

template <typename Shape, typename OwnPlaces>
struct ForwardTileMemory {
  using Real = typename Shape::Real;
  static constexpr int kStagedRows = Shape::kStages * Shape::kColumns;
  static constexpr int kLengths = Shape::kRoundsWeights ? kStagedRows : 0;
  // Warps of slices do not wait for each other here: each has its own.
  static constexpr int kPositives = Shape::kSlices * Shape::kRows;

  __device__ __forceinline__ explicit ForwardTileMemory(const LossParams& params)
      : queries(&arrays, Shape::kRows),
        own_places(&arrays, params),
        docs(&arrays, kStagedRows),
        pair_inputs(&arrays, Shape::kRows + kStagedRows),
        query_inverse_norm(arrays.template take<Real>(Shape::kRows)),
        doc_inverse_norm(arrays.template take<Real>(Shape::kRows)),
        positive_cosines(arrays.template take<Real>(kPositives)),
        factors(arrays.template take<Real>(kDirectionFactors * Shape::kRows)),
        weight_factors(arrays.template take<Real>(kLengths)),
        lengths(arrays.template take<Real>(kLengths)),
        places(&arrays),
        counts(&arrays),
        slices(&arrays),
        groups(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + OwnPlaces::kBytes +
      TileRows<Shape>::bytes(kStagedRows) +
      PairInputs<Shape>::bytes(Shape::kRows + kStagedRows) +
      2 * shared_bytes(Shape::kRows, sizeof(Real)) +
      shared_bytes(kPositives, sizeof(Real)) +
      shared_bytes(kDirectionFactors * Shape::kRows, sizeof(Real)) +
      2 * shared_bytes(kLengths, sizeof(Real)) + TilePlaces<Shape::kWindow>::kBytes +
      TileCounts<Shape>::kBytes + TileSlices<Shape>::kBytes +
      TileGroups<Shape, kForwardNumbers<Shape>>::kBytes;

  __device__ __forceinline__ SharedElement<Real>& factor(DirectionFactor which,
                                                         int in_tile) const {
    return factors[which * Shape::kRows + in_tile];
  }

  ArraysOf<Shape> arrays;
  TileRows<Shape> queries;
  const OwnPlaces own_places;  // of the queries
  TileRows<Shape> docs;
  PairInputs<Shape> pair_inputs;  // of the tile's own documents, and then of docs
  // Of the queries and their documents as they were given.
  SharedElement<Real>* const query_inverse_norm;
  SharedElement<Real>* const doc_inverse_norm;
  SharedElement<Real>* const positive_cosines;
  SharedElement<Real>* const factors;
  // Of docs, where weights are rounded: what a weight is multiplied by, and by what
  // that is undone.
  SharedElement<Real>* const weight_factors;
  SharedElement<Real>* const lengths;
  TilePlaces<Shape::kWindow> places;
  TileCounts<Shape> counts;
  TileSlices<Shape> slices;
  TileGroups<Shape, kForwardNumbers<Shape>> groups;
};

}  // namespace cuda
}  // namespace negative_cosine
