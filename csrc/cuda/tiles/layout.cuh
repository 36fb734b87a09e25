// Where the elements of rows lie in shared memory.
#pragma once

#include <type_traits>

#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// One row behind the other, each a packet longer than whole rows of banks (shape.cuh).
template <typename Shape>
struct PaddedLayout {
  using Element = SharedElement<typename Shape::Storage>;

  __host__ __device__ static constexpr int elements(int rows) {
    return rows * Shape::kStride;
  }
  __device__ __forceinline__ static Element* row(Element* elements, int number) {
    return elements + number * Shape::kStride;
  }
};

// A row whose packets lie apart: `row + column` is where an element is, and the others
// of its packet behind it.
template <typename Storage>
class SwizzledRow {
 public:
  // Of eight rows together, 64 elements or 128 bytes of each lie side by side: an atom.
  // Packet p of row r is in place p ^ r, so that neither eight packets of a row nor
  // those of eight rows meet in a bank. It is PTX's 128-byte swizzle.
  static constexpr int kRowsOfAtom = 8;
  static constexpr int kColumnsOfAtom = 64;
  static constexpr int kElementsOfAtom = kRowsOfAtom * kColumnsOfAtom;
  static constexpr int kPacket = 8;
  static_assert(sizeof(Storage) == 2, "a packet of eight elements");

  __device__ __forceinline__ SwizzledRow(SharedElement<Storage>* first_of_eight,
                                         int row)
      : elements_(first_of_eight + row * kColumnsOfAtom), row_(row) {}

  __device__ __forceinline__ SharedElement<Storage>* operator+(int column) const {
    const int packet = column % kColumnsOfAtom / kPacket ^ row_;
    return elements_ + column / kColumnsOfAtom * kElementsOfAtom + packet * kPacket +
           column % kPacket;
  }
  __device__ __forceinline__ SharedElement<Storage>& operator[](int column) const {
    return *(*this + column);
  }

 private:
  SharedElement<Storage>* const elements_;
  const int row_;  // of the eight
};

// Eight rows after the other, atom by atom.
template <typename Shape>
struct SwizzledLayout {
  using Storage = typename Shape::Storage;
  using Row = SwizzledRow<Storage>;

  __host__ __device__ static constexpr int elements(int rows) {
    return rows * Shape::kDim;
  }
  __device__ __forceinline__ static Row row(SharedElement<Storage>* elements,
                                            int number) {
    return {elements + number / Row::kRowsOfAtom * Row::kRowsOfAtom * Shape::kDim,
            number % Row::kRowsOfAtom};
  }
};

template <typename Shape>
using LayoutOf = std::conditional_t<Shape::kIsOfWarpgroups, SwizzledLayout<Shape>,
                                    PaddedLayout<Shape>>;
template <typename Shape>
using ArraysOf =
    std::conditional_t<Shape::kIsOfWarpgroups, SwizzledSharedArrays, SharedArrays>;

// An array's length beside swizzled rows, which start at multiples of 1024 bytes: with
// two numbers of 32 bits a row, all arrays of rows are such multiples.
template <typename Shape>
__host__ __device__ constexpr int padded_count(int rows) {
  return Shape::kIsOfWarpgroups ? (rows + 127) / 128 * 128 : rows;
}

}  // namespace cuda
}  // namespace negative_cosine
