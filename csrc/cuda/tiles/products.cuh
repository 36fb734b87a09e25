// The two matrix products of a tile: a warp's 16 rows times a panel, and weights times
// the panel.
//
//   products[r][c] += row[r] . panel[c],    sums[r] += sum over c of weights[r][c]
//   panel[c]
//
// Both are of the warp's slice of the rows, where the pointers point.
//
// TensorCores computes them for 16-bit elements with float32 sums, Tf32Cores for
// float32 elements that may be rounded to ten bits, PlainTiles for the others by fused
// multiply-adds. A lane holds the same elements in all of them (shape.cuh), so that a
// kernel is written once.
#pragma once

#include <type_traits>

#include "core/math.h"
#include "cuda/device/arithmetic.cuh"
#include "cuda/device/instructions.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

// Two numbers, each as the sum of two 16-bit elements, with twice as many digits as
// one: a weight rounded to 16 bits would cost the gradient more than the gradient's own
// rounding.
template <typename Storage>
struct SplitPair {
  __device__ __forceinline__ SplitPair(float low, float high)
      : leading(round_pair(low, high, Storage{})) {
    float rounded[2];
    unpack_pair(leading, Storage{}, rounded);
    rest = round_pair(low - rounded[0], high - rounded[1], Storage{});
  }

  uint32_t leading;
  uint32_t rest;
};

template <typename Factor>
constexpr bool kOnTensorCores = !std::is_arithmetic_v<Factor>;  // all but float, double

// The cosine of a query and a document; `nan_addend` is NaN if one of them holds it
// (rows.cuh). Both passes multiply in this order: a large scale would magnify a bit
// that differs.
template <typename Real>
__device__ __forceinline__ Real cosine_of_pair(Real product, Real query_inverse_norm,
                                               Real doc_inverse_norm, Real nan_addend) {
  return multiply_add(product * query_inverse_norm, doc_inverse_norm, nan_addend);
}

// e^exponent of a softmax. With products of the tensor cores its argument is rounded
// once more, which changes the weight by a factor of |exponent| 2^-23.6 and two units
// in its last place: about as much as the rounding of the logits, which are as large.
template <typename Shape>
__device__ __forceinline__ typename Shape::Real weight_of(
    typename Shape::Real exponent) {
  if constexpr (kOnTensorCores<typename Shape::Factor>) {
    constexpr float kLog2E = 1.44269504f;
    return approximate_exp2(exponent * kLog2E);
  } else {
    return exp_of(exponent);
  }
}

// products[r][c] by the tensor cores, two packets of each row at a time.
template <typename Shape>
struct TensorCoreProducts {
  using Storage = typename Shape::Storage;
  using Factor = typename Shape::Factor;
  static constexpr int kPairs = Shape::kColumns / (2 * kFragmentColumns);

  __device__ __forceinline__ static void multiply(const SharedElement<Storage>* rows,
                                                  const SharedElement<Storage>* panel,
                                                  Products<Shape>& products) {
    constexpr int kPacket = Shape::kPacket;
    const int lane = lane_of_thread();
    const auto* left_row =
        rows + (lane % 8 + lane / 8 % 2 * 8) * Shape::kStride + lane / 16 * kPacket;
    const auto* right_row =
        panel + (lane % 8 + lane / 16 * 8) * Shape::kStride + lane / 8 % 2 * kPacket;
#pragma unroll
    for (int column = 0; column < Shape::kSliceDim; column += 2 * kPacket) {
      uint32_t left[4];
      load_matrices<Storage>(left_row + column, left);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        uint32_t right[4];
        load_matrices<Storage>(
            right_row + pair * 2 * kFragmentColumns * Shape::kStride + column, right);
        multiply_matrices(left, right[0], right[1], Factor{}, products[2 * pair]);
        multiply_matrices(left, right[2], right[3], Factor{}, products[2 * pair + 1]);
      }
    }
  }
};

template <typename Shape>
struct TensorCores : TensorCoreProducts<Shape> {
  using Storage = typename Shape::Storage;
  static constexpr int kStep = 16;  // elements that one instruction multiplies
  using TensorCoreProducts<Shape>::kPairs;

  __device__ __forceinline__ static void accumulate(const Products<Shape>& weights,
                                                    const SharedElement<Storage>* panel,
                                                    RowSums<Shape>& sums) {
    const int lane = lane_of_thread();
    const auto* right_row =
        panel + (lane % 8 + lane / 8 % 2 * 8) * Shape::kStride + lane / 16 * 8;
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      uint32_t leading[4];
      uint32_t rest[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const auto& of_fragment = weights[2 * pair + part / 2];
        const SplitPair<Storage> split(of_fragment[part % 2 * 2],
                                       of_fragment[part % 2 * 2 + 1]);
        leading[part] = split.leading;
        rest[part] = split.rest;
      }
#pragma unroll
      for (int column = 0; column < Shape::kSliceDim; column += kStep) {
        uint32_t right[4];
        load_transposed<Storage>(right_row + pair * kStep * Shape::kStride + column,
                                 right);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          auto& sum = sums[column / kFragmentColumns + half];
          multiply_matrices(rest, right[2 * half], right[2 * half + 1], Storage{}, sum);
          multiply_matrices(leading, right[2 * half], right[2 * half + 1], Storage{},
                            sum);
        }
      }
    }
  }
};

// float32 elements, which were rounded to Tf32 when they were prepared, and weights,
// which are rounded here.
template <typename Shape>
struct Tf32Cores : TensorCoreProducts<Shape> {
  static constexpr int kFragments = Shape::kColumns / kFragmentColumns;
  static_assert(Shape::kStride % 32 == 4, "no bank conflicts");

  // The order in which a panel's rows are summed is free: columns 2 q and 2 q + 1 of
  // the weights, which a lane holds, are passed as the instruction's columns q and q
  // + 4. Its lanes then read elements 8 q + g banks apart, which are all different.
  __device__ __forceinline__ static void accumulate(const Products<Shape>& weights,
                                                    const SharedElement<float>* panel,
                                                    RowSums<Shape>& sums) {
    const auto* right = panel + column_of_lane() * Shape::kStride + row_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments; ++fragment) {
      const uint32_t left[4] = {
          round_to_tf32(weights[fragment][0]), round_to_tf32(weights[fragment][2]),
          round_to_tf32(weights[fragment][1]), round_to_tf32(weights[fragment][3])};
      const auto* even = right + fragment * kFragmentColumns * Shape::kStride;
      const auto* odd = even + Shape::kStride;
#pragma unroll
      for (int v = 0; v < Shape::kSliceDim / kFragmentColumns; ++v) {
        multiply_matrices(left, __float_as_uint(even[v * kFragmentColumns]),
                          __float_as_uint(odd[v * kFragmentColumns]), Tf32{}, sums[v]);
      }
    }
  }
};

template <typename Shape>
struct PlainTiles {
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;
  static constexpr int kFragments = Shape::kColumns / kFragmentColumns;

  __device__ __forceinline__ static void multiply(const SharedElement<Storage>* rows,
                                                  const SharedElement<Storage>* panel,
                                                  Products<Shape>& products) {
    const auto* left_row = rows + row_of_lane() * Shape::kStride;
    const auto* right_row = panel + column_of_lane() * Shape::kStride;
#pragma unroll 2
    for (int column = 0; column < Shape::kSliceDim; column += Shape::kPacket) {
      Real left[2][Shape::kPacket];
      read_packet(left_row + column, left[0]);
      read_packet(left_row + 8 * Shape::kStride + column, left[1]);
#pragma unroll
      for (int fragment = 0; fragment < kFragments; ++fragment) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Real right[Shape::kPacket];
          read_packet(
              right_row + (fragment * kFragmentColumns + j) * Shape::kStride + column,
              right);
#pragma unroll
          for (int e = 0; e < Shape::kPacket; ++e) {
            Real& upper = products[fragment][j];
            Real& lower = products[fragment][2 + j];
            upper = multiply_add(left[0][e], right[e], upper);
            lower = multiply_add(left[1][e], right[e], lower);
          }
        }
      }
    }
  }

  __device__ __forceinline__ static void accumulate(const Products<Shape>& weights,
                                                    const SharedElement<Storage>* panel,
                                                    RowSums<Shape>& sums) {
#pragma unroll
    for (int fragment = 0; fragment < kFragments; ++fragment) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) {
          const int holder = lane_of_thread() / 4 * 4 + quarter;
          const Real upper = __shfl_sync(kWholeWarp, weights[fragment][j], holder);
          const Real lower = __shfl_sync(kWholeWarp, weights[fragment][2 + j], holder);
          const int row = fragment * kFragmentColumns + 2 * quarter + j;
          add_weighted(panel + row * Shape::kStride + column_of_lane(), upper, lower,
                       sums);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void add_weighted(
      const SharedElement<Storage>* panel, Real upper, Real lower,
      RowSums<Shape>& sums) {
#pragma unroll
    for (int v = 0; v < Shape::kSliceDim / kFragmentColumns; ++v) {
      Real pair[2];
      read_pair(panel + v * kFragmentColumns, pair);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        sums[v][j] = multiply_add(upper, pair[j], sums[v][j]);
        sums[v][2 + j] = multiply_add(lower, pair[j], sums[v][2 + j]);
      }
    }
  }
};

template <typename Shape, typename Factor>
struct TileProductsOf {
  using type = PlainTiles<Shape>;
};
template <typename Shape>
struct TileProductsOf<Shape, Float16> {
  using type = TensorCores<Shape>;
};
template <typename Shape>
struct TileProductsOf<Shape, BFloat16> {
  using type = TensorCores<Shape>;
};
template <typename Shape>
struct TileProductsOf<Shape, Tf32> {
  using type = Tf32Cores<Shape>;
};
template <typename Shape>
using TileProducts = typename TileProductsOf<Shape, typename Shape::Factor>::type;

}  // namespace cuda
}  // namespace negative_cosine
