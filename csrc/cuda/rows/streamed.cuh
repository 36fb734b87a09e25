// Rows that are not held: a fragment is read twice, through the caches, and the sum is
// kept in global memory.
#pragma once

#include "core/formulas.h"
#include "cuda/rows/rows.cuh"

namespace negative_cosine {
namespace cuda {

template <typename PacketType>
class StreamedRows {
 public:
  using Packet = PacketType;
  using Storage = typename Packet::Storage;
  using Real = typename Packet::Real;
  static constexpr int kElements = Packet::kElements;
  static constexpr int kWarps = 1;
  static constexpr int kRows = 4;
  static constexpr int kFragmentRows = kRows;
  static constexpr int kLanesPerProduct = kWarpSize / kFragmentRows;
  static constexpr bool kNeedsSumMemory = true;
  static constexpr int kBlocksPerMultiprocessor = 4;

  struct Unit {
    const Storage* row;
    Real inverse_norm;
  };
  struct Fragment {
    const Storage* rows[kRows];  // null where not kept
  };
  using Sums = Real*;

  __device__ __forceinline__ StreamedRows(int64_t dim, int /*piece_bytes*/)
      : dim_(dim) {}

  __device__ __forceinline__ static bool is_first_lane() {
    return lane_of_thread() == 0;
  }

  __device__ __forceinline__ static int product_of_lane() {
    return lane_of_thread() / kLanesPerProduct;
  }

  __device__ __forceinline__ Unit load_unit(const Storage* row,
                                            Real* inverse_norm) const {
    Real squares = 0;
    for_each_column([&](int64_t column) {
      Real x[kElements];
      Packet::load(row + column).unpack_to(x);
#pragma unroll
      for (int e = 0; e < kElements; ++e) squares = multiply_add(x[e], x[e], squares);
    });
    *inverse_norm = inverse_norm_of_row(sum_over_lanes(squares), row, dim_);
    return {row, *inverse_norm};
  }

  __device__ __forceinline__ Unit load_unit_of_norm(const Storage* row,
                                                    Real inverse_norm) const {
    return {row, inverse_norm};
  }

  __device__ __forceinline__ RowProducts<Real> products_with(const Unit& unit,
                                                             const Storage* row) const {
    Fragment fragment = {};
    fragment.rows[0] = row;
    Real dots[kRows], squares[kRows];
    multiply(unit, fragment, dots, squares);
    return {sum_over_lanes(dots[0]), sum_over_lanes(squares[0])};
  }

  __device__ __forceinline__ Fragment load_fragment(const Storage* matrix,
                                                    int32_t index, int first) const {
    Fragment fragment;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = __shfl_sync(kWholeWarp, index, first + r);
      fragment.rows[r] = row >= 0 ? matrix + row * dim_ : nullptr;
    }
    return fragment;
  }

  template <bool kWithSquares>
  __device__ __forceinline__ RowProducts<Real> products(
      const Unit& unit, const Fragment& fragment) const {
    Real dots[kRows], squares[kRows];
    multiply(unit, fragment, dots, squares);
    const Real dot = transposed_sums<kRows, kWarpSize>(dots);
    if constexpr (!kWithSquares) return {dot, 0};
    return {dot, transposed_sums<kRows, kWarpSize>(squares)};
  }

  // `memory` has room for a row; each lane touches its own columns of it alone.
  __device__ __forceinline__ Sums no_sums(Real* memory) const {
    const Real zeros[kElements] = {};
    for_each_column([&](int64_t column) { store_packet(zeros, memory + column); });
    return memory;
  }

  __device__ __forceinline__ void scale(Real factor, Sums* sums) const {
    store_multiple(*sums, factor, *sums);
  }

  __device__ __forceinline__ void add_weighted(const Fragment& fragment, Real weight,
                                               Sums* sums) const {
    Real weights[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      weights[r] = __shfl_sync(kWholeWarp, weight, r * kLanesPerProduct);
    }
    for_each_column([&](int64_t column) {
      Real sum[kElements];
      load_packet_from_l2(*sums + column, sum);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Real x[kElements];
        load_or_zero(fragment.rows[r], column, x);
#pragma unroll
        for (int e = 0; e < kElements; ++e)
          sum[e] = multiply_add(weights[r], x[e], sum[e]);
      }
      store_packet(sum, *sums + column);
    });
  }

  template <typename Out, typename Combine>
  __device__ __forceinline__ void store(const Unit& unit, const Sums& sums,
                                        const Storage* other, const Combine& combine,
                                        Out* to) const {
    for_each_column([&](int64_t column) {
      Real x[kElements], sum[kElements], others[kElements];
      Packet::load(unit.row + column).unpack_to(x);
      load_packet_from_l2(sums + column, sum);
      load_or_zero(other, column, others);
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        sum[e] = combine(x[e] * unit.inverse_norm, sum[e], others[e]);
      }
      store_packet(sum, to + column);
    });
  }

  template <typename Out>
  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Out* to) const {
    for_each_column([&](int64_t column) {
      Real values[kElements];
      load_packet_from_l2(from + column, values);
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        values[e] = zero_safe_product(factor, values[e]);
      }
      store_packet(values, to + column);
    });
  }

 private:
  template <typename Work>
  __device__ __forceinline__ void for_each_column(const Work& work) const {
#pragma unroll 1
    for (int64_t column = lane_of_thread() * kElements; column < dim_;
         column += kWarpSize * kElements) {
      work(column);
    }
  }

  __device__ __forceinline__ static void load_or_zero(const Storage* row,
                                                      int64_t column,
                                                      Real (&values)[kElements]) {
    const Packet packet = row != nullptr ? Packet::load(row + column) : Packet::zero();
    packet.unpack_to(values);
  }

  __device__ __forceinline__ void multiply(const Unit& unit, const Fragment& fragment,
                                           Real (&dots)[kRows],
                                           Real (&squares)[kRows]) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) dots[r] = squares[r] = 0;
    for_each_column([&](int64_t column) {
      Real own[kElements];
      Packet::load(unit.row + column).unpack_to(own);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        Real x[kElements];
        load_or_zero(fragment.rows[r], column, x);
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          dots[r] = multiply_add(own[e] * unit.inverse_norm, x[e], dots[r]);
          squares[r] = multiply_add(x[e], x[e], squares[r]);
        }
      }
    });
  }

  const int64_t dim_;
};

}  // namespace cuda
}  // namespace negative_cosine
