// A block's shared memory in the forward pass: the tile's queries, the documents that
// they meet, and what is counted.
#pragma once

#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/places.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// What a thread counts of its two rows, where that is asked for: beside the sums there
// are no registers for it.
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
        facts(&arrays, kDocs),
        query_inverse_norm(arrays.template take<Real>(Shape::kRows)),
        places(&arrays),
        counts(&arrays),
        slices(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kDocs, kHeldDocs) +
      TileFacts<Shape>::bytes(kDocs) + shared_bytes(Shape::kRows, sizeof(Real)) +
      TilePlaces<Shape::kThreads>::kBytes + TileCounts<Shape>::kBytes +
      TileSlices<Shape>::kBytes;

  // The number of a block's first row: the tile's own documents, then two blocks in
  // turns.
  __device__ __forceinline__ static int slot_of(int32_t block) {
    constexpr int kOwn = Shape::kRows / Shape::kColumns;
    return block < kOwn ? block * Shape::kColumns
                        : Shape::kRows + block % 2 * Shape::kColumns;
  }

  // A document's elements. Where own documents are not kept, block b of all stands in
  // place b % 2, so that what comes after them overwrites them one block behind.
  __device__ __forceinline__ SharedElement<typename Shape::Storage>* doc_row(
      int slot) const {
    const bool is_behind = !Shape::kKeepsOwnDocs && slot >= Shape::kRows;
    return docs.row(is_behind ? slot - Shape::kRows : slot);
  }

  SharedArrays arrays;
  TileRows<Shape> queries;
  TileRows<Shape> docs;
  TileFacts<Shape> facts;                         // of the docs
  SharedElement<Real>* const query_inverse_norm;  // of the rows as they were given
  TilePlaces<Shape::kThreads> places;
  TileCounts<Shape> counts;
  TileSlices<Shape> slices;
};

}  // namespace cuda
}  // namespace negative_cosine
