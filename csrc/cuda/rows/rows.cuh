// How a warp holds embedding rows: its own row, a fragment of the rows that it is
// multiplied with, and the weighted sum of these. A fragment is a few rows whose loads
// are in flight together.
//
// RegisterRows (register.cuh) keeps all three in registers. StreamedRows (streamed.cuh)
// is for longer rows. Both have the same members, so that a kernel is written once:
//
//   load_unit      a row at unit length
//
//   load_fragment  the rows whose indices the lanes from `first` on hold; zeros where
//                  an index is kNotKept
//
//   products       of each row of the fragment with the unit row, and its squares if
//                  asked for; a lane gets those of the row number product_of_lane()
//
//   add_weighted   sums += weight * row, with the weight of a lane's row
//
//   store          combine(unit row, sum, another row), element by element
//
// This file has what both share: inverse norms.
#pragma once

#include "core/norms.h"
#include "core/sampler.h"
#include "cuda/device/arithmetic.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

// A warp takes a row, or a block where the row is long.
constexpr int kMostWarpsPerBlock = 4;

// What the host finds once for all rows.
template <typename Real>
struct RowSettings {
  Real margin;
  int piece_bytes;  // see columns.cuh
  FeistelShape shape;
};

template <typename Real>
struct RowProducts {
  Real dot;
  Real squares;  // of the row itself
};

// 1 / |row| of a row whose sum of squares overflowed (see core/norms.h); all lanes work
// on it. Rare, so it reads the row again, element by element.
template <typename Storage>
__device__ __forceinline__ ComputeType<Storage> scaled_inverse_norm(const Storage* row,
                                                                    int64_t dim) {
  using Real = ComputeType<Storage>;
  Real element[1];
  Real largest = 0;
#pragma unroll 1
  for (int64_t column = lane_of_thread(); column < dim; column += kWarpSize) {
    ScalarPacket<Storage>::load(row + column).unpack_to(element);
    const Real magnitude = element[0] < 0 ? -element[0] : element[0];
    largest = magnitude > largest ? magnitude : largest;
  }
  largest = largest_over_lanes(largest);
  Real sum = 0;
#pragma unroll 1
  for (int64_t column = lane_of_thread(); column < dim; column += kWarpSize) {
    ScalarPacket<Storage>::load(row + column).unpack_to(element);
    const Real scaled = element[0] / largest;
    sum = multiply_add(scaled, scaled, sum);
  }
  return inverse_norm_of_scaled(largest, sum_over_lanes(sum));
}

template <typename Storage>
__device__ __forceinline__ ComputeType<Storage> inverse_norm_of_row(
    ComputeType<Storage> squares, const Storage* row, int64_t dim) {
  return may_have_overflowed(squares) ? scaled_inverse_norm(row, dim)
                                      : inverse_norm_of(squares);
}

// 1 / |row| of the lane's candidate from its squares, where each lane may have another;
// see core/norms.h.
template <typename Storage>
__device__ __forceinline__ ComputeType<Storage> inverse_norm_of_candidate(
    ComputeType<Storage> squares, const Storage* docs, int64_t dim, int32_t index) {
  using Real = ComputeType<Storage>;
  Real inverse_norm = inverse_norm_of(squares);
  unsigned overflowed = __ballot_sync(kWholeWarp, may_have_overflowed(squares));
  while (overflowed != 0) {
    const int lane = __ffs(static_cast<int>(overflowed)) - 1;
    const int64_t row = __shfl_sync(kWholeWarp, index, lane);
    const Real scaled = scaled_inverse_norm(docs + row * dim, dim);
    if (lane_of_thread() == lane) inverse_norm = scaled;
    overflowed &= overflowed - 1;
  }
  return inverse_norm;
}

}  // namespace cuda
}  // namespace negative_cosine
