// Weights that enter the products as one 16-bit number each, and how the gradients bear
// it: half as many products as with two (tiles/products.cuh).
//
// A rounded weight alone would cost a gradient more than twenty times its own rounding,
// where rows nearly cancel (benchmarks/weight_rounding.py). So
//
//   the weighted sum of a row is multiplied by sum |w| / sum |r|, with weights w and
//   what they are rounded to, r: the error of a weight that outweighs all others then
//   goes
//
//   the projection, the part of the sum along the row itself, is that of this sum, not
//   of the exact weights
//
//   the positive's weight, which is large and of the other sign, is not rounded: it is
//   added at the end.
//
// A weight is multiplied by its row's inverse norm before it is rounded, and r is
// counted without it: per row of unit length.
#pragma once

#include "cuda/device/arithmetic.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane's two rows have lost by rounding of their weights' absolute values.
// Nothing, where weights are not rounded.
template <typename Shape, bool kRounds = Shape::kRoundsWeights>
struct LostByRounding {
  using Real = typename Shape::Real;
  __device__ __forceinline__ void scale(int, Real) {}
};

template <typename Shape>
struct LostByRounding<Shape, true> {
  using Real = typename Shape::Real;

  // `given` and `rounded` are as the products take a weight, of rows of that length.
  __device__ __forceinline__ void add(int row, Real given, Real rounded, Real length) {
    weights[row] = multiply_add(fabsf(given) - fabsf(rounded), length, weights[row]);
  }
  __device__ __forceinline__ void scale(int row, Real factor) {
    weights[row] *= factor;
  }

  Real weights[kRowsOfLane] = {};
};

// The product of each of the lane's rows with what is summed for it, over all elements:
// `element_of(in_tile, column)` is where two elements of a row are.
template <typename Shape, typename ElementOf>
__device__ __forceinline__ void products_with_sums(
    const RowSums<Shape>& sums, const ElementOf& element_of,
    typename Shape::Real (&products)[2]) {
  products[0] = products[1] = 0;
#pragma unroll
  for (int v = 0; v < kSumFragments<Shape>; ++v) {
    for_each_row_of_lane([&](int row) {
      typename Shape::Real pair[2];
      read_pair(
          element_of(row_in_tile<Shape>(row), v * kFragmentColumns + column_of_lane()),
          pair);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        products[row] = multiply_add(sums[v][2 * row + j], pair[j], products[row]);
      }
    });
  }
  for_each_row_of_lane([&](int row) { products[row] = sum_over_row(products[row]); });
}

// What the weighted sum of a row is multiplied by.
template <typename Real>
__device__ __forceinline__ Real rounding_factor(Real weights, Real lost) {
  const Real rounded = weights - lost;
  return rounded > 0 ? weights / rounded : Real(1);
}

// The length of a prepared row, whose inverse is its norm; 0 where it has none.
template <typename Real>
__device__ __forceinline__ Real length_of(Real norm) {
  return norm > 0 ? 1 / norm : Real(0);
}

}  // namespace cuda
}  // namespace negative_cosine
