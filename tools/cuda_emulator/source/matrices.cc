// The matrices of a warp: 8 x 8 elements of 16 bits as ldmatrix hands them out, and the
// products that mma.m16n8k16, or m16n8k8 for tf32, forms of them. The layouts are
// PTX's.
#include <cstdint>

#include "block.h"
#include "device.h"
#include "emulation/collectives.h"
#include "emulation/device_math.h"
#include "emulation/tiles.h"
#include "shared_arrays.h"
#include "sums.h"
#include "traffic.h"

namespace emulator {
namespace {

constexpr int kRows = 8;
constexpr int kMatrices = 4;

uint32_t packed(uint16_t low, uint16_t high) {
  return low | static_cast<uint32_t>(high) << 16;
}

RowOfMatrix& row_of(void* const (&operands)[32], int matrix, int row) {
  return *static_cast<RowOfMatrix*>(operands[kRows * matrix + row]);
}

// Rows of one matrix are read at once, but for those that lie in the same banks at
// different places.
void count_matrices(void* const (&operands)[32]) {
  if (!traffic_is_counted) return;
  static_assert(kRows == kLanesOfPackets, "a row is a packet");
  for (int matrix = 0; matrix < kMatrices; ++matrix) {
    unsigned places[kRows];
    for (int row = 0; row < kRows; ++row) {
      places[row] = row_of(operands, matrix, row).place;
    }
    count_matrix(turns_of_packets(places));
  }
}

// --- Loads -------------------------------------------------------------------------

void hand_out_rows(void* const (&operands)[32]) {
  count_matrices(operands);
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const uint16_t* words = row_of(operands, matrix, lane / 4).words;
      const int column = 2 * (lane % 4);
      static_cast<RowOfMatrix*>(operands[lane])->matrices[matrix] =
          packed(words[column], words[column + 1]);
    }
  }
}

void hand_out_columns(void* const (&operands)[32]) {
  count_matrices(operands);
  for (int lane = 0; lane < 32; ++lane) {
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const int row = 2 * (lane % 4);
      const int column = lane / 4;
      static_cast<RowOfMatrix*>(operands[lane])->matrices[matrix] =
          packed(row_of(operands, matrix, row).words[column],
                 row_of(operands, matrix, row + 1).words[column]);
    }
  }
}

constexpr WarpCall kLoadMatrices = {"load_matrices", hand_out_rows};
constexpr WarpCall kLoadTransposed = {"load_transposed", hand_out_columns};

// --- Products ----------------------------------------------------------------------

struct Factors {
  float left[16][16];
  float right[16][8];
  int depth;  // columns of the left, rows of the right
};

// The tensor cores do not look at the last 13 bits.
float value_of_tf32(uint32_t bits) { return reinterpret<float>(bits & ~0x1fffu); }

void unpack_tf32(const ProductOfMatrices& product, int lane, Factors* factors) {
  factors->depth = 8;
  for (int word = 0; word < 4; ++word) {
    factors->left[lane / 4 + 8 * (word % 2)][lane % 4 + 4 * (word / 2)] =
        value_of_tf32(product.left[word]);
  }
  for (int word = 0; word < 2; ++word) {
    factors->right[lane % 4 + 4 * word][lane / 4] = value_of_tf32(product.right[word]);
  }
}

void unpack(const ProductOfMatrices& product, int lane, Factor type, Factors* factors) {
  if (type == Factor::kTf32) return unpack_tf32(product, lane, factors);
  factors->depth = 16;
  for (int word = 0; word < 4; ++word) {
    const int row = lane / 4 + 8 * (word % 2);
    const int column = 2 * (lane % 4) + 8 * (word / 2);
    factors->left[row][column] = value_of(product.left[word] & 0xffffu, type);
    factors->left[row][column + 1] = value_of(product.left[word] >> 16, type);
  }
  for (int word = 0; word < 2; ++word) {
    const int row = 2 * (lane % 4) + 8 * word;
    const int column = lane / 4;
    factors->right[row][column] = value_of(product.right[word] & 0xffffu, type);
    factors->right[row + 1][column] = value_of(product.right[word] >> 16, type);
  }
}

template <Factor kType>
void multiply_and_add(void* const (&operands)[32]) {
  Factors factors;
  for (int lane = 0; lane < 32; ++lane) {
    unpack(*static_cast<ProductOfMatrices*>(operands[lane]), lane, kType, &factors);
  }
  for (int row = 0; row < 16; ++row) {
    // Four lanes hold a row's sums, two each.
    float* places[8];
    float sums[8];
    for (int column = 0; column < 8; ++column) {
      const int lane = 4 * (row % 8) + column / 2;
      places[column] = static_cast<ProductOfMatrices*>(operands[lane])->sums +
                       2 * (row / 8) + column % 2;
      sums[column] = *places[column];
    }
    add_products(factors.left[row], factors.right, factors.depth, kType, sums);
    for (int column = 0; column < 8; ++column) *places[column] = sums[column];
  }
}

constexpr WarpCall kMultiplyFloat16 = {"multiply_matrices of Float16",
                                       multiply_and_add<Factor::kFloat16>};
constexpr WarpCall kMultiplyBFloat16 = {"multiply_matrices of BFloat16",
                                        multiply_and_add<Factor::kBFloat16>};
constexpr WarpCall kMultiplyTf32 = {"multiply_matrices of Tf32",
                                    multiply_and_add<Factor::kTf32>};

const WarpCall& call_of(Factor type) {
  switch (type) {
    case Factor::kFloat16:
      return kMultiplyFloat16;
    case Factor::kBFloat16:
      return kMultiplyBFloat16;
    case Factor::kTf32:
      return kMultiplyTf32;
  }
  __builtin_unreachable();
}

}  // namespace

unsigned place_of_row(const void* first_element) {
  return locate_in_shared_arrays("load_matrices from", first_element, kPacketBytes);
}

void exchange_rows(RowOfMatrix* row, bool transposed) {
  require_capability(8, 0, transposed ? kLoadTransposed.name : kLoadMatrices.name);
  take_part_in(transposed ? kLoadTransposed : kLoadMatrices, row);
}

void multiply(ProductOfMatrices* product, Factor type) {
  const WarpCall& call = call_of(type);
  require_capability(8, 0, call.name);
  take_part_in(call, product);
}

}  // namespace emulator
