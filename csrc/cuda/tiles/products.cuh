// The two matrix products of a tile: a warp's rows times its part of a panel, and
// weights times that.
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

// The cosine of a query and a document. Both passes multiply in this order: a large
// scale would magnify a bit that differs.
template <typename Real>
__device__ __forceinline__ Real cosine_of_pair(Real product, Real query_norm,
                                               Real doc_norm) {
  return product * query_norm * doc_norm;
}

constexpr float kLog2E = 1.44269504f;

// e^exponent of a softmax. With products of the tensor cores its argument is rounded
// once more, which changes the weight by a factor of |exponent| 2^-23.6 and two units
// in its last place: about as much as the rounding of the logits, which are as large.
template <typename Shape>
__device__ __forceinline__ typename Shape::Real weight_of(
    typename Shape::Real exponent) {
  if constexpr (kOnTensorCores<typename Shape::Factor>) {
    return approximate_exp2(exponent * kLog2E);
  } else {
    return exp_of(exponent);
  }
}

// e^(logit - shift), and how a shift is kept for that: warpgroups, which have few
// instructions for a pair, keep it as a power of two.
template <typename Shape>
__device__ __forceinline__ typename Shape::Real weight_above(
    typename Shape::Real logit, typename Shape::Real kept_shift) {
  if constexpr (Shape::kIsOfWarpgroups) {
    return approximate_exp2(multiply_add(logit, kLog2E, -kept_shift));
  } else {
    return weight_of<Shape>(logit - kept_shift);
  }
}
// Finite, so that an infinite logit less it is no NaN.
__device__ __forceinline__ float shift_as_power(float shift) {
  return min(max(shift * kLog2E, -kLargestNumber<float>), kLargestNumber<float>);
}

// products[r][c] by the tensor cores, two packets of each row at a time.
template <typename Shape>
struct TensorCoreProducts {
  using Storage = typename Shape::Storage;
  using Factor = typename Shape::Factor;
  static constexpr int kPairs = Shape::kColumnsOfWarp / (2 * kFragmentColumns);

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
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          multiply_matrices(left, right[2 * half], right[2 * half + 1], Factor{},
                            products[2 * pair + half]);
        }
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
      uint32_t leading[4], rest[4];
      split(weights, pair, leading, rest);
#pragma unroll
      for (int column = 0; column < Shape::kSliceDim; column += kStep) {
        uint32_t right[4];
        load_transposed<Storage>(right_row + pair * kStep * Shape::kStride + column,
                                 right);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          auto& sum = sums[column / kFragmentColumns + half];
          const uint32_t right_0 = right[2 * half];
          const uint32_t right_1 = right[2 * half + 1];
          multiply_matrices(rest, right_0, right_1, Storage{}, sum);
          multiply_matrices(leading, right_0, right_1, Storage{}, sum);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void split(const Products<Shape>& weights, int pair,
                                               uint32_t (&leading)[4],
                                               uint32_t (&rest)[4]) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const auto& of_fragment = weights[2 * pair + part / 2];
      const SplitPair<Storage> parts(of_fragment[part % 2 * 2],
                                     of_fragment[part % 2 * 2 + 1]);
      leading[part] = parts.leading;
      rest[part] = parts.rest;
    }
  }
};

// float32 elements, which were rounded to Tf32 when they were prepared, and weights,
// which are rounded here.
template <typename Shape>
struct Tf32Cores : TensorCoreProducts<Shape> {
  static_assert(Shape::kStride % 32 == 4, "no bank conflicts");

  // The order in which a panel's rows are summed is free: columns 2 q and 2 q + 1 of
  // the weights, which a lane holds, are passed as the instruction's columns q and q
  // + 4. Its lanes then read elements 8 q + g banks apart, which are all different.
  __device__ __forceinline__ static void accumulate(const Products<Shape>& weights,
                                                    const SharedElement<float>* panel,
                                                    RowSums<Shape>& sums) {
    const auto* right = panel + column_of_lane() * Shape::kStride + row_of_lane();
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      uint32_t left[4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        left[part] = round_to_tf32(weights[fragment][part % 2 * 2 + part / 2]);
      }
      const auto* even = right + fragment * kFragmentColumns * Shape::kStride;
      const auto* odd = even + Shape::kStride;
#pragma unroll
      for (int v = 0; v < kSumFragments<Shape>; ++v) {
        const uint32_t right_0 = __float_as_uint(even[v * kFragmentColumns]);
        const uint32_t right_1 = __float_as_uint(odd[v * kFragmentColumns]);
        multiply_matrices(left, right_0, right_1, Tf32{}, sums[v]);
      }
    }
  }
};

template <typename Shape>
struct PlainTiles {
  using Storage = typename Shape::Storage;
  using Real = typename Shape::Real;
  // Elements whose products are added up before they are added to the others': one long
  // chain of multiply-adds would lose a digit more.
  static constexpr int kPart = 16;

  __device__ __forceinline__ static void multiply(const SharedElement<Storage>* rows,
                                                  const SharedElement<Storage>* panel,
                                                  Products<Shape>& products) {
    const auto* left_row = rows + row_of_lane() * Shape::kStride;
    const auto* right_row = panel + column_of_lane() * Shape::kStride;
#pragma unroll 1
    for (int column = 0; column < Shape::kSliceDim; column += kPart) {
#pragma unroll
      for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
        multiply_part(left_row + column,
                      right_row + fragment * kFragmentColumns * Shape::kStride + column,
                      fragment, products);
      }
    }
  }

  __device__ __forceinline__ static void accumulate(const Products<Shape>& weights,
                                                    const SharedElement<Storage>* panel,
                                                    RowSums<Shape>& sums) {
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) {
          const int holder = lane_of_thread() / 4 * 4 + quarter;
          Real of_rows[kRowsOfLane];
          for_each_row_of_lane([&](int row) {
            of_rows[row] =
                __shfl_sync(kWholeWarp, weights[fragment][row * 2 + j], holder);
          });
          const int met = fragment * kFragmentColumns + 2 * quarter + j;
          add_weighted(panel + met * Shape::kStride + column_of_lane(), of_rows, sums);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static void multiply_part(
      const SharedElement<Storage>* left_row, const SharedElement<Storage>* right_row,
      int fragment, Products<Shape>& products) {
    Real parts[kFragmentElements] = {};
#pragma unroll 2
    for (int column = 0; column < kPart; column += Shape::kPacket) {
      Real right[2][Shape::kPacket];
      read_packet(right_row + column, right[0]);
      read_packet(right_row + Shape::kStride + column, right[1]);
      for_each_row_of_lane([&](int row) {
        Real left[Shape::kPacket];
        read_packet(left_row + row * 8 * Shape::kStride + column, left);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Real& part = parts[row * 2 + j];
#pragma unroll
          for (int e = 0; e < Shape::kPacket; ++e) {
            part = multiply_add(left[e], right[j][e], part);
          }
        }
      });
    }
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      products[fragment][element] += parts[element];
    }
  }

  __device__ __forceinline__ static void add_weighted(
      const SharedElement<Storage>* panel, const Real (&weights)[kRowsOfLane],
      RowSums<Shape>& sums) {
#pragma unroll
    for (int v = 0; v < kSumFragments<Shape>; ++v) {
      Real pair[2];
      read_pair(panel + v * kFragmentColumns, pair);
      for_each_row_of_lane([&](int row) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          Real& sum = sums[v][row * 2 + j];
          sum = multiply_add(weights[row], pair[j], sum);
        }
      });
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
