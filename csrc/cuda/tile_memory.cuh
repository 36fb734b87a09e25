// A block's shared memory: its own rows, and the rows that they meet, block by block in
// turns, with what has to be known of each.
#pragma once

#include "cuda/candidates.cuh"
#include "cuda/tile_rows.cuh"

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
        inverse_norm(arrays->template take<Real>(count)),
        poison(arrays->template take<Real>(count)),
        log_q(arrays->template take<Real>(count)) {}

  __host__ __device__ static constexpr int bytes(int count) {
    return shared_bytes(count * Shape::kStride, sizeof(Storage)) +
           shared_bytes(count, sizeof(int32_t)) + 3 * shared_bytes(count, sizeof(Real));
  }

  __device__ __forceinline__ SharedElement<Storage>* row(int number) const {
    return elements + number * Shape::kStride;
  }

  // What one thread notes of a row that has been settled; its index it has noted when
  // the copy began.
  __device__ __forceinline__ void note(int number, const RowNorm<Real>& norm,
                                       Real row_log_q) const {
    inverse_norm[number] = norm.inverse_norm;
    poison[number] = norm.poison;
    log_q[number] = row_log_q;
  }

  SharedElement<Storage>* const elements;
  SharedElement<int32_t>* const index;  // kNotKept where there is no row
  SharedElement<Real>* const inverse_norm;
  SharedElement<Real>* const poison;
  SharedElement<Real>* const log_q;
};

// Which of a block's columns a warp's 16 rows meet, where row r meets columns
// r + first .. r + last: in pairs of tiles.
template <typename Shape>
__device__ __forceinline__ bool find_met_pairs(int64_t first, int64_t last,
                                               int64_t block_start,
                                               MetPairs<Shape>& is_met) {
  constexpr int kWidth = 2 * kColumnsOfTile;
  const int64_t own_row = first_row_of_warp<Shape>();
  bool any = false;
#pragma unroll
  for (int pair = 0; pair < Shape::kColumns / kWidth; ++pair) {
    const int64_t start = block_start + pair * kWidth;
    is_met[pair] =
        start + kWidth > own_row + first && start <= own_row + kRowsOfWarp - 1 + last;
    any |= is_met[pair];
  }
  return any;
}

}  // namespace cuda
}  // namespace negative_cosine
