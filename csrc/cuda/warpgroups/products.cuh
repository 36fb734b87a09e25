// The two matrix products of a tile (tiles/products.cuh) by warpgroups, which read rows
// where they lie in shared memory.
//
//   products[r][c] = row[r] . panel[c],    sums[r] += sum over c of weights[r][c]
//   panel[c]
//
// A descriptor says where a matrix is: the address of its first element, and two
// distances in bytes. Atoms are 8 rows of 64 elements (tiles/layout.cuh), 1024 bytes;
// those of the same 8 rows lie side by side.
#pragma once

#include "cuda/device/packets.cuh"
#include "cuda/tiles/layout.cuh"
#include "cuda/tiles/products.cuh"
#include "cuda/tiles/rounding.cuh"
#include "cuda/warpgroups/shape.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kDepth = 16;  // what one instruction multiplies of a row, or of a column

// Two distances of atoms, which mean: in a product row by row that between 8 rows and
// the next 8 is `stride`, and `leading` is not used; in one column by column that
// between 8 rows and the next 8 is `stride`, and that between 64 columns and the next
// 64 is `leading`.
__device__ __forceinline__ uint64_t matrix_at(uint32_t address, uint32_t leading,
                                              uint32_t stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | uint64_t{stride / 16} << 32 | uint64_t{leading / 16} << 16 |
         (address & 0x3ffffu) / 16;
}

template <typename Shape>
class WarpgroupProducts {
 public:
  using Storage = typename Shape::Storage;
  using Element = SharedElement<Storage>;
  static constexpr int kSumColumns = Shape::kDim < 128 ? Shape::kDim : 128;
  using PanelProducts = WarpgroupSums<Shape::kColumns>;

  // All rows of the warpgroup times all columns of a panel; it is under way until
  // wait_for_products().
  __device__ __forceinline__ static void multiply(const Element* rows,
                                                  const Element* panel,
                                                  PanelProducts& products) {
    const uint64_t left = matrix_at(shared_address_of<Storage>(rows), 0, kGroupBytes);
    const uint64_t right = matrix_at(shared_address_of<Storage>(panel), 0, kGroupBytes);
    begin_products();
    multiply_shared<Shape::kColumns, false>(left, right, Storage{}, products);
#pragma unroll
    for (int column = kDepth; column < Shape::kDim; column += kDepth) {
      const uint32_t distance = (column / kColumnsOfAtom * kAtomBytes +
                                 column % kColumnsOfAtom * kElementBytes) /
                                16;
      multiply_shared<Shape::kColumns, true>(left + distance, right + distance,
                                             Storage{}, products);
    }
    commit_products();
  }

  // A panel's weights as the left factor of products, of 16 columns each. Those of the
  // lane's row and a fragment's two columns are one word.
  using PanelWeights = uint32_t[Shape::kColumns / kDepth][4];
  __device__ __forceinline__ static uint32_t& weights_of(PanelWeights& weights,
                                                         int part, int fragment,
                                                         int row) {
    const int of_panel = part * kFragments<Shape> + fragment;
    return weights[of_panel / 2][of_panel % 2 * 2 + row];
  }
  __device__ __forceinline__ static void forget_part(PanelWeights& weights, int part) {
#pragma unroll
    for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
      for_each_row_of_lane(
          [&](int row) { weights_of(weights, part, fragment, row) = 0; });
    }
  }

  // Rounds two weights of a row to what the products take, keeps what that loses, and
  // returns them. `given` are the weights times their rows' inverse norms.
  __device__ __forceinline__ static uint32_t round_weights(
      int row, const float (&given)[2], const float (&lengths)[2],
      LostByRounding<Shape>* lost) {
    const uint32_t pair = round_pair(given[0], given[1], Storage{});
    float rounded[2];
    unpack_pair(pair, Storage{}, rounded);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      lost->add(row, given[j], rounded[j], lengths[j]);
    }
    return pair;
  }

  // sums += weights times the rows of a panel, likewise.
  __device__ __forceinline__ static void accumulate(const PanelWeights& weights,
                                                    const Element* panel,
                                                    RowSums<Shape>& sums) {
    const uint64_t right =
        matrix_at(shared_address_of<Storage>(panel), kAtomBytes, kGroupBytes);
    begin_products();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int column = 0; column < Shape::kDim; column += kSumColumns) {
        const uint32_t distance = (step * kDepth / kRowsOfAtom * kGroupBytes +
                                   column / kColumnsOfAtom * kAtomBytes) /
                                  16;
        multiply_registers<kSumColumns>(weights[step], right + distance, Storage{},
                                        reinterpret_cast<WarpgroupSums<kSumColumns>&>(
                                            sums[column / kFragmentColumns]));
      }
    }
    commit_products();
  }

  // A part of the products, as ordinary tiles have them.
  __device__ __forceinline__ static Products<Shape>& part_of(PanelProducts& products,
                                                             int part) {
    return reinterpret_cast<Products<Shape>&>(products[part * kFragments<Shape>]);
  }

 private:
  static constexpr int kRowsOfAtom = SwizzledRow<Storage>::kRowsOfAtom;
  static constexpr int kColumnsOfAtom = SwizzledRow<Storage>::kColumnsOfAtom;
  static constexpr uint32_t kElementBytes = sizeof(Storage);
  static constexpr uint32_t kAtomBytes =
      SwizzledRow<Storage>::kElementsOfAtom * kElementBytes;
  static constexpr uint32_t kGroupBytes = kRowsOfAtom * Shape::kRowBytes;
  static constexpr int kSteps = Shape::kColumns / kDepth;
};

}  // namespace cuda
}  // namespace negative_cosine
