// Rows in a block's shared memory: the tile's own rows, or the panels that they are
// multiplied with, and what has to be known of each row.
#pragma once

#include "cuda/tiles/inputs.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// Four neighbouring numbers, of which the first has a number that four divides.
__device__ __forceinline__ void read_four(const SharedElement<float>* from,
                                          float (&values)[4]) {
  read_packet(from, values);
}
__device__ __forceinline__ void read_four(const SharedElement<double>* from,
                                          double (&values)[4]) {
  double halves[2][2];
  read_packet(from, halves[0]);
  read_packet(from + 2, halves[1]);
#pragma unroll
  for (int i = 0; i < 4; ++i) values[i] = halves[i / 2][i % 2];
}

// The norms of two neighbouring rows.
template <typename Real>
struct NormsOfPair {
  __device__ __forceinline__ Real inverse_norm(int j) const { return numbers[2 * j]; }
  __device__ __forceinline__ Real nan_addend(int j) const { return numbers[2 * j + 1]; }

  Real numbers[4];
};

// One array of rows and of what belongs to them.
template <typename Shape>
class TileRows {
 public:
  using Real = typename Shape::Real;
  using Storage = typename Shape::Storage;

  __device__ __forceinline__ TileRows(SharedArrays* arrays, int count)
      : index(arrays->template take<int32_t>(count)),
        elements_(arrays->template take<Storage>(count * Shape::kStride)),
        norms_(arrays->template take<Real>(2 * count)) {}

  __host__ __device__ static constexpr int bytes(int count) {
    return shared_bytes(count, sizeof(int32_t)) +
           shared_bytes(count * Shape::kStride, sizeof(Storage)) +
           shared_bytes(2 * count, sizeof(Real));
  }

  __device__ __forceinline__ SharedElement<Storage>* row(int number) const {
    return elements_ + number * Shape::kStride;
  }

  // One thread calls it for a row that has been prepared. It has written the row's
  // index when the copy began.
  __device__ __forceinline__ void set_norm(int number,
                                           const RowNorm<Real>& norm) const {
    norms_[2 * number] = norm.inverse_norm;
    norms_[2 * number + 1] = norm.nan_addend;
  }

  // Starts to copy the inverse norm of a row as it was given; 0 where it does not
  // exist.
  __device__ __forceinline__ void copy_norm(const Real* from, bool exists,
                                            int number) const {
    copy_async<sizeof(Real)>(norms_ + 2 * number, from, exists);
  }

  __device__ __forceinline__ Real inverse_norm(int number) const {
    return norms_[2 * number];
  }
  __device__ __forceinline__ Real nan_addend(int number) const {
    return norms_[2 * number + 1];
  }
  // NaN if the row holds NaN or infinity.
  __device__ __forceinline__ Real norm_with_nan(int number) const {
    return norms_[2 * number] + norms_[2 * number + 1];
  }
  // Of a row with an even number and the next.
  __device__ __forceinline__ NormsOfPair<Real> norms_of_pair(int number) const {
    NormsOfPair<Real> pair;
    read_four(norms_ + 2 * number, pair.numbers);
    return pair;
  }

  SharedElement<int32_t>* const index;  // kNotKept where there is no row

 private:
  SharedElement<Storage>* const elements_;
  SharedElement<Real>* const norms_;  // inverse_norm and nan_addend of each
};

}  // namespace cuda
}  // namespace negative_cosine
