// A block's shared memory: its own rows, and the rows that they meet, block by block in
// turns, with what has to be known of each.
#pragma once

#include "cuda/tiles/inputs.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// One array of rows and of what belongs to them: of `count` rows, of which so many have
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
        poison(arrays->template take<Real>(count)) {}

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

  // What one thread notes of a row that has been settled; its index it has noted when
  // the copy began.
  __device__ __forceinline__ void note(int number, const RowNorm<Real>& norm) const {
    inverse_norm[number] = norm.inverse_norm;
    poison[number] = norm.poison;
  }

  SharedElement<Storage>* const elements;
  SharedElement<int32_t>* const index;  // kNotKept where there is no row
  SharedElement<Real>* const inverse_norm;
  SharedElement<Real>* const poison;
};

}  // namespace cuda
}  // namespace negative_cosine
