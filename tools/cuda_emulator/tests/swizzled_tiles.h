// Where the kernels of the tests put the elements of a warpgroup's factors: rows of 128
// bytes, whose pieces of 16 bytes change places by the row's number among eight.
#pragma once

#include <cstdint>

namespace planted {

constexpr int swizzled_element(int row, int element) {
  return row * 64 + (element / 8 ^ row % 8) * 8 + element % 8;
}

// Of `rows` rows; each 64 elements along the depth are a tile of their own.
constexpr int place_along_depth(int row, int k, int rows) {
  return k / 64 * rows * 64 + swizzled_element(row, k % 64);
}

// Each 64 columns are a tile of `depth` rows.
constexpr int place_along_columns(int column, int k, int depth) {
  return column / 64 * depth * 64 + swizzled_element(k, column % 64);
}

// Of a matrix with the swizzle of 128 bytes.
constexpr uint64_t descriptor_of(uint32_t address, uint32_t leading = 0,
                                 uint32_t stride = 1024) {
  return uint64_t{address >> 4} | uint64_t{leading >> 4} << 16 |
         uint64_t{stride >> 4} << 32 | uint64_t{1} << 62;
}

}  // namespace planted
