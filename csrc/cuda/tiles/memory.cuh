// Rows in a block's shared memory: the tile's own rows, or the panels that they are
// multiplied with, and what has to be known of each row.
#pragma once

#include "cuda/tiles/inputs.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// One array of rows and of what belongs to them: `count` rows, of which `held` have
// their elements here at a time.
template <typename Shape>
struct TileRows {
  using Real = typename Shape::Real;
  using Storage = typename Shape::Storage;

  __device__ __forceinline__ TileRows(SharedArrays* arrays, int count)
      : TileRows(arrays, count, count) {}
  __device__ __forceinline__ TileRows(SharedArrays* arrays, int count, int held)
      : elements(arrays->template take<Storage>(held * Shape::kStride)),
        index(arrays->template take<int32_t>(count)),
        inverse_norm(arrays->template take<Real>(count)),
        nan_addend(arrays->template take<Real>(count)) {}

  __host__ __device__ static constexpr int bytes(int count, int held) {
    return shared_bytes(held * Shape::kStride, sizeof(Storage)) +
           shared_bytes(count, sizeof(int32_t)) + 2 * shared_bytes(count, sizeof(Real));
  }
  __host__ __device__ static constexpr int bytes(int count) {
    return bytes(count, count);
  }

  __device__ __forceinline__ SharedElement<Storage>* row(int number) const {
    return elements + number * Shape::kStride;
  }

  // One thread calls it for a row that has been prepared. It has written the row's
  // index when the copy began.
  __device__ __forceinline__ void set_norm(int number,
                                           const RowNorm<Real>& norm) const {
    inverse_norm[number] = norm.inverse_norm;
    nan_addend[number] = norm.nan_addend;
  }

  SharedElement<Storage>* const elements;
  SharedElement<int32_t>* const index;  // kNotKept where there is no row
  SharedElement<Real>* const inverse_norm;
  SharedElement<Real>* const nan_addend;
};

}  // namespace cuda
}  // namespace negative_cosine
