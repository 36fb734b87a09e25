// Rows in a block's shared memory: the tile's own rows, or the panels that they are
// multiplied with, and what has to be known of each row.
#pragma once

#include "cuda/tiles/inputs.cuh"
#include "cuda/tiles/layout.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// One array of rows and of what belongs to them.
template <typename Shape>
struct TileRows {
  using Real = typename Shape::Real;
  using Storage = typename Shape::Storage;
  using Layout = LayoutOf<Shape>;

  __device__ __forceinline__ TileRows(SharedArrays* arrays, int count)
      : elements(arrays->template take<Storage>(Layout::elements(count))),
        index(arrays->template take<int32_t>(padded_count<Shape>(count))),
        norm(arrays->template take<Real>(padded_count<Shape>(count))) {}

  __host__ __device__ static constexpr int bytes(int count) {
    return shared_bytes(Layout::elements(count), sizeof(Storage)) +
           shared_bytes(padded_count<Shape>(count), sizeof(int32_t)) +
           shared_bytes(padded_count<Shape>(count), sizeof(Real));
  }

  __device__ __forceinline__ auto row(int number) const {
    return Layout::row(elements, number);
  }

  SharedElement<Storage>* const elements;
  SharedElement<int32_t>* const index;  // kNotKept where there is no row
  SharedElement<Real>* const norm;      // of rows that have been prepared
};

}  // namespace cuda
}  // namespace negative_cosine
