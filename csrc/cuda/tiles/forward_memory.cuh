// A block's shared memory in the forward pass: the tile's queries, its own documents,
// two panels of the documents behind them, and what is counted.
#pragma once

#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/places.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// What a thread counts of its two rows, where that is asked for: the sums leave no
// registers for it.
template <typename Shape>
class TileCounts {
 public:
  static constexpr int kBytes = shared_bytes(4 * Shape::kThreads, sizeof(int32_t));

  __device__ __forceinline__ explicit TileCounts(SharedArrays* arrays)
      : counts_(arrays->template take<int32_t>(4 * Shape::kThreads)) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      kept(half) = 0;
      rank(half) = 0;
    }
  }

  __device__ __forceinline__ SharedElement<int32_t>& kept(int half) const {
    return counts_[half * Shape::kThreads + static_cast<int>(threadIdx.x)];
  }
  __device__ __forceinline__ SharedElement<int32_t>& rank(int half) const {
    return counts_[(2 + half) * Shape::kThreads + static_cast<int>(threadIdx.x)];
  }

 private:
  SharedElement<int32_t>* const counts_;
};

template <typename Shape>
struct ForwardTileMemory {
  using Real = typename Shape::Real;
  static constexpr int kDocs = Shape::kRows + 2 * Shape::kColumns;
  static constexpr int kHeldDocs = Shape::kKeepsOwnDocs ? kDocs : 2 * Shape::kColumns;

  __device__ __forceinline__ ForwardTileMemory()
      : queries(&arrays, Shape::kRows),
        docs(&arrays, kDocs, kHeldDocs),
        pair_inputs(&arrays, kDocs),
        query_inverse_norm(arrays.template take<Real>(Shape::kRows)),
        places(&arrays),
        counts(&arrays),
        slices(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kDocs, kHeldDocs) +
      PairInputs<Shape>::bytes(kDocs) + shared_bytes(Shape::kRows, sizeof(Real)) +
      TilePlaces<Shape::kThreads>::kBytes + TileCounts<Shape>::kBytes +
      TileSlices<Shape>::kBytes;

  // The number of a panel's first row in `docs`: the tile's own documents come first,
  // the panels behind them use two stages in turn.
  __device__ __forceinline__ static int first_staged_row(int32_t panel) {
    constexpr int kOwn = Shape::kRows / Shape::kColumns;
    return panel < kOwn ? panel * Shape::kColumns
                        : Shape::kRows + panel % 2 * Shape::kColumns;
  }

  // A document's elements. Where own documents are not kept, panel p is in stage p % 2,
  // whether it is one of them or not, so that the panels behind them overwrite them.
  __device__ __forceinline__ SharedElement<typename Shape::Storage>* doc_row(
      int staged) const {
    const bool is_behind = !Shape::kKeepsOwnDocs && staged >= Shape::kRows;
    return docs.row(is_behind ? staged - Shape::kRows : staged);
  }

  SharedArrays arrays;
  TileRows<Shape> queries;
  TileRows<Shape> docs;
  PairInputs<Shape> pair_inputs;                  // of the docs
  SharedElement<Real>* const query_inverse_norm;  // of the rows as they were given
  TilePlaces<Shape::kThreads> places;
  TileCounts<Shape> counts;
  TileSlices<Shape> slices;
};

}  // namespace cuda
}  // namespace negative_cosine
