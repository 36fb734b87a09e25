// Rows in a block's shared memory: the tile's own rows, or the panels that they are
// multiplied with, and what has to be known of each row.
#pragma once

#include "cuda/tiles/inputs.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// One array of rows and of what belongs to them.
template <typename Shape>
struct TileRows {
  using Real = typename Shape::Real;
  using Storage = typename Shape::Storage;

  __device__ __forceinline__ TileRows(SharedArrays* arrays, int count)
      : elements(arrays->template take<Storage>(count * Shape::kStride)),
        index(arrays->template take<int32_t>(count)),
        norm(arrays->template take<Real>(count)) {}

  __host__ __device__ static constexpr int bytes(int count) {
    return shared_bytes(count * Shape::kStride, sizeof(Storage)) +
           shared_bytes(count, sizeof(int32_t)) + shared_bytes(count, sizeof(Real));
  }

  __device__ __forceinline__ SharedElement<Storage>* row(int number) const {
    return elements + number * Shape::kStride;
  }

  SharedElement<Storage>* const elements;
  SharedElement<int32_t>* const index;  // kNotKept where there is no row
  SharedElement<Real>* const norm;      // of rows that have been prepared
};

}  // namespace cuda
}  // namespace negative_cosine
