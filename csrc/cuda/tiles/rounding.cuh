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
//   the projection, the part of the sum along the row itself, is made of the same r
//
//   the positive's weight, which is large and of the other sign, is not rounded: it is
//   added at the end.
//
// A weight is multiplied by its row's inverse norm before it is rounded, and r is
// counted without it: per row of unit length.
#pragma once

#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// What a lane's two rows have lost by rounding: of their weights' absolute values, and
// of the sums of weights times cosines. Nothing, where weights are not rounded.
template <typename Shape, bool kRounds = Shape::kRoundsWeights>
struct LostByRounding {
  using Real = typename Shape::Real;
  __device__ __forceinline__ void scale(int, Real) {}
};

template <typename Shape>
struct LostByRounding<Shape, true> {
  using Real = typename Shape::Real;

  // Of a weight and its cosine; `given` and `rounded` are as the products take it, of
  // rows of that length.
  __device__ __forceinline__ void add(int row, Real given, Real rounded, Real length,
                                      Real cosine) {
    weights[row] = multiply_add(fabsf(given) - fabsf(rounded), length, weights[row]);
    cosines[row] = multiply_add((given - rounded) * length, cosine, cosines[row]);
  }
  __device__ __forceinline__ void scale(int row, Real factor) {
    weights[row] *= factor;
    cosines[row] *= factor;
  }

  Real weights[kRowsOfLane] = {};
  Real cosines[kRowsOfLane] = {};
};

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
