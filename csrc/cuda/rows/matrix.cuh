// Short rows of bfloat16 elements, multiplied by the tensor cores.
//
// The rows are held as RegisterRows hold them, a row over four lanes. So the four words
// of a packet are an operand of mma.sync without being moved: as the left one, of 16
// rows, words 0 and 2 are row lane / 4 and words 1 and 3 are the row 8 further down.
// Which columns a word holds is the same in all operands.
//
//   dot       right: the unit row, words 0 and 2 as even columns, 1 and 3 as odd ones
//   squares   left: two words of the fragment; right: one of them, as columns, of which
//             the diagonal counts
//   sums      left: words of 16 rows of the fragment, transposed over the lanes;
//             right: weights, the same in four columns
//
// The unit row is the row itself times a power of two, so that it has all its digits,
// and its products are multiplied by what is left of its inverse norm. A weight is two
// 16-bit elements, so that it has twice their digits: the leading ones are the even
// columns of the right, the rest are the odd ones.
//
// The tensor cores cut off the sums that they add to. Half of a row's product is added
// up by four instructions at most, half of its squares by eight. If all terms have one
// sign, and are as large, they lose at most 2.5 and 4.5 units of 2^-23 of it: a cosine
// less than 6e-7, and no more than the positive's own cosine may lose.
#pragma once

#include "cuda/device/instructions.cuh"
#include "cuda/rows/register.cuh"

namespace negative_cosine {
namespace cuda {

template <typename PacketType, int kPacketsOfLane>
class MatrixRows : public RegisterRows<PacketType, 4, kPacketsOfLane> {
 public:
  using Base = RegisterRows<PacketType, 4, kPacketsOfLane>;
  using typename Base::Fragment;
  using typename Base::Real;
  using typename Base::Reals;
  using typename Base::Row;
  using typename Base::Storage;
  static constexpr int kBlocksPerMultiprocessor = 3;

  struct Unit {
    uint32_t right[Base::kPackets][2];  // times a power of two
    Real inverse_norm;                  // of what it is then
    const Storage* row;
    Real inverse_norm_of_row;
  };
  // Of two words of each packet, the lane's share of their columns: by the leading
  // parts of the weights and by the rest, for one word and for the other.
  struct Sums {
    Real values[Base::kPackets][2][4];
  };

  using Base::Base;

  __device__ __forceinline__ Unit load_unit(const Storage* row,
                                            Real* inverse_norm) const {
    const Row loaded = this->load_row(row, true);
    *inverse_norm = this->inverse_norm_of_held(loaded, row);
    return unit_of(loaded, row, *inverse_norm);
  }

  __device__ __forceinline__ Unit load_unit_of_norm(const Storage* row,
                                                    Real inverse_norm) const {
    return unit_of(this->load_row(row, true), row, inverse_norm);
  }

  // By the same instructions as those of a fragment: equal rows give equal products.
  __device__ __forceinline__ RowProducts<Real> products_with(const Unit& unit,
                                                             const Storage* row) const {
    const Row loaded = this->load_row(row, true);
    Fragment fragment;
#pragma unroll
    for (Row& each : fragment.rows) each = loaded;
    return products<true>(unit, fragment);
  }

  template <bool kWithSquares>
  __device__ __forceinline__ RowProducts<Real> products(
      const Unit& unit, const Fragment& fragment) const {
    const int row_of_lane = lane_of_thread() % 4 / Base::kLanesPerProduct;
    RowProducts<Real> products{0, 0};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Real dot = dot_of(unit, fragment.rows[r]);
      if (row_of_lane == r) products.dot = dot;
      if constexpr (kWithSquares) {
        const Real squares = squares_of(fragment.rows[r]);
        if (row_of_lane == r) products.squares = squares;
      }
    }
    products.dot *= unit.inverse_norm;
    return products;
  }

  __device__ __forceinline__ Sums no_sums(Real*) const { return Sums{}; }

  __device__ __forceinline__ void scale(Real factor, Sums* sums) const {
    for_each_pair([&](int v, int pair) {
#pragma unroll
      for (Real& value : sums->values[v][pair]) value *= factor;
    });
  }

  __device__ __forceinline__ void add_weighted(const Fragment& fragment, Real weight,
                                               Sums* sums) const {
#pragma unroll
    for (int r = 0; r < kRows; r += 2) {
      const uint32_t weights[2] = {weights_of(weight, r), weights_of(weight, r + 1)};
      const Row& first = fragment.rows[r];
      const Row& second = fragment.rows[r + 1];
      for_each_pair([&](int v, int pair) {
        const uint32_t left[4] = {
            transpose_matrix(first.packets[v].word(2 * pair)),
            transpose_matrix(first.packets[v].word(2 * pair + 1)),
            transpose_matrix(second.packets[v].word(2 * pair)),
            transpose_matrix(second.packets[v].word(2 * pair + 1))};
        multiply_matrices(left, weights[0], weights[1], Storage{},
                          sums->values[v][pair]);
      });
    }
  }

  template <typename Out, typename Combine>
  __device__ __forceinline__ void store(const Unit& unit, const Sums& sums,
                                        const Storage* other, const Combine& combine,
                                        Out* to) const {
    const Reals units = this->unpacked(this->load_row(unit.row, true));
    const Reals others = this->unpacked(this->load_row(other, other != nullptr));
    Reals results;
    for_each_pair([&](int v, int pair) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int e = 4 * pair + i;
        results.values[v][e] =
            combine(units.values[v][e] * unit.inverse_norm_of_row,
                    sum_of_element(sums.values[v][pair], i), others.values[v][e]);
      }
    });
    this->store_row(results, to);
  }

 private:
  static constexpr int kRows = Base::kRows;
  static_assert(kRows % 2 == 0, "16 rows of a warp are two of each lane");

  __device__ __forceinline__ static Unit unit_of(Row loaded, const Storage* row,
                                                 Real inverse_norm) {
    const float power = __uint_as_float(__float_as_uint(inverse_norm) & 0x7f800000u);
    constexpr float kSmallest = 1.17549435e-38f;
    const float factor = power > 0 ? power : kSmallest;
    const bool is_odd = lane_of_thread() / 4 % 2 != 0;
    Unit unit;
#pragma unroll
    for (int v = 0; v < Base::kPackets; ++v) {
      loaded.packets[v].multiply(factor);
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        unit.right[v][pair] = loaded.packets[v].word(2 * pair + (is_odd ? 1 : 0));
      }
    }
    unit.inverse_norm = inverse_norm / factor;
    unit.row = row;
    unit.inverse_norm_of_row = inverse_norm;
    return unit;
  }

  // Of row lane / 4 of a fragment's 8.
  __device__ __forceinline__ static Real dot_of(const Unit& unit, const Row& row) {
    Real sums[4] = {};
#pragma unroll
    for (int v = 0; v < Base::kPackets; ++v) {
      const uint4 bits = row.packets[v].bits;
      const uint32_t left[4] = {bits.x, bits.y, bits.z, bits.w};
      multiply_matrices(left, unit.right[v][0], unit.right[v][1], Storage{}, sums);
    }
    return sums[0] + sums[3];
  }

  __device__ __forceinline__ static Real squares_of(const Row& row) {
    Real even[4] = {};
    Real odd[4] = {};
#pragma unroll
    for (int v = 0; v < Base::kPackets; ++v) {
#pragma unroll
      for (int w = 0; w < 4; w += 2) {
        const uint32_t left[2] = {row.packets[v].word(w), row.packets[v].word(w + 1)};
        multiply_matrices(left, left[0], Storage{}, even);
        multiply_matrices(left, left[1], Storage{}, odd);
      }
    }
    // Lane 4 g + g / 2 has the diagonal's element of row g.
    const int group = lane_of_thread() / 4;
    const Real held = group % 2 == 0 ? even[0] + odd[2] : even[1] + odd[3];
    return __shfl_sync(kWholeWarp, held, 4 * group + group / 2);
  }

  // Of row r of two groups, as a word: what is leading, or the rest.
  __device__ __forceinline__ static uint32_t weights_of(Real weight, int r) {
    const int first = lane_of_thread() % 4 * 8 + r * Base::kLanesPerProduct;
    const Real low = __shfl_sync(kWholeWarp, weight, first);
    const Real high = __shfl_sync(kWholeWarp, weight, first + 4);
    const uint32_t leading = round_pair(low, high, Storage{});
    float rounded[2];
    unpack_pair(leading, Storage{}, rounded);
    const uint32_t rest = round_pair(low - rounded[0], high - rounded[1], Storage{});
    return lane_of_thread() / 4 % 2 == 0 ? leading : rest;
  }

  // Element i of the lane's packet, from the lanes that have its columns: lane / 4 is
  // the number of a column of a transposed word, of which two are a lane's.
  __device__ __forceinline__ static Real sum_of_element(const Real (&sums)[4], int i) {
    const Real sum = i < 2 ? sums[0] + sums[1] : sums[2] + sums[3];
    return __shfl_sync(kWholeWarp, sum, 4 * (lane_of_thread() % 4 * 2 + i % 2));
  }

  template <typename Work>
  __device__ __forceinline__ static void for_each_pair(const Work& work) {
#pragma unroll
    for (int v = 0; v < Base::kPackets; ++v) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) work(v, pair);
    }
  }
};

}  // namespace cuda
}  // namespace negative_cosine
