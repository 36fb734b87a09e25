// The matrices of a warp: 8 x 8 elements of 16 bits as ldmatrix hands them out, and the
// products that mma.m16n8k16, or m16n8k8 for tf32, forms of them. The layouts are
// PTX's.
#include <math.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block.h"
#include "device.h"
#include "emulation/collectives.h"
#include "emulation/emulator.h"
#include "emulation/small_floats.h"
#include "emulation/tiles.h"
#include "shared_arrays.h"
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

// Every half as a float: the conversion itself takes longer than a product.
const float* floats_of_halves() {
  static const std::vector<float> floats = [] {
    std::vector<float> all(1 << 16);
    for (uint32_t bits = 0; bits < all.size(); ++bits) {
      all[bits] = Binary16::to_float(static_cast<uint16_t>(bits));
    }
    return all;
  }();
  return floats.data();
}

float value_of(uint32_t bits, Factor type) {
  return type == Factor::kBFloat16 ? reinterpret<float>(bits << 16)
                                   : floats_of_halves()[bits];
}

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

// --- Their sums, rounded to nearest ------------------------------------------------

// Onto the sum that was there, product by product in the order of the left's columns,
// each addition rounded to float32. A product of two such numbers is exact in float32
// unless it leaves float32's range, and subnormal numbers stay what they are. A GPU's
// sums differ in the last bits: see below.
void add_products(const Factors& factors, int row, float (&sums)[8]) {
  for (int k = 0; k < factors.depth; ++k) {
    for (int column = 0; column < 8; ++column) {
      sums[column] += factors.left[row][k] * factors.right[k][column];
    }
  }
}

// --- Their sums, cut off -----------------------------------------------------------

bool products_are_truncated = false;

// How many products are added at once to what the ones before have given, and how many
// bits are kept behind the last one of a float32 that is as large as the largest term.
// An H100 recorded both (tests/cuda/vectors); those of an A100 are published: Khattak
// and Mikaitis, "Accurate Models of NVIDIA Tensor Cores", 2025.
struct Truncation {
  int at_once;
  int kept_bits;
};

Truncation truncation_of_device(int depth) {
  return device_generation() < 9 ? Truncation{depth / 2, 1} : Truncation{depth, 2};
}

// As the multiplication sees it: subnormal numbers have the smallest normal one's, and
// a product has its factors' sum, though it may be twice as large as that says.
int exponent_of(float value, int smallest) {
  int exponent;
  frexp(static_cast<double>(value), &exponent);
  return std::max(exponent - 1, smallest);
}

float truncated_to_float(double value) {
  if (fabs(value) >= 0x1p128) return static_cast<float>(copysign(HUGE_VAL, value));
  const auto nearest = static_cast<float>(value);
  const bool is_larger = fabs(static_cast<double>(nearest)) > fabs(value);
  return is_larger ? nextafterf(nearest, 0.0f) : nearest;
}

constexpr int kSmallestExponent = -126;  // of float32, and of all factors but Float16

// One element's sum and some products, cut off where the largest has its last bits.
class TruncatedSum {
 public:
  explicit TruncatedSum(float start) {
    add_term(start, exponent_of(start, kSmallestExponent));
  }

  void add(float left, float right, int smallest) {
    add_term(static_cast<double>(left) * static_cast<double>(right),
             exponent_of(left, smallest) + exponent_of(right, smallest));
  }

  float result(int kept_bits) const {
    if (!isfinite(plain_sum_)) return static_cast<float>(plain_sum_);
    const int last_bit = largest_ - 23 - kept_bits;
    double sum = 0;  // exact: terms have less than 28 bits
    for (int term = 0; term < count_; ++term) {
      sum += trunc(ldexp(terms_[term], -last_bit));
    }
    return truncated_to_float(ldexp(sum, last_bit));
  }

 private:
  void add_term(double term, int exponent) {
    if (term != 0) largest_ = std::max(largest_, exponent);
    terms_[count_++] = term;
    plain_sum_ += term;
  }

  double terms_[17];
  int count_ = 0;
  int largest_ = 2 * kSmallestExponent;
  double plain_sum_ = 0;  // tells NaN and infinity
};

void add_truncated_products(const Factors& factors, int row, Factor type,
                            float (&sums)[8]) {
  const int smallest = type == Factor::kFloat16 ? -14 : kSmallestExponent;
  const Truncation truncation = truncation_of_device(factors.depth);
  for (int column = 0; column < 8; ++column) {
    for (int first = 0; first < factors.depth; first += truncation.at_once) {
      TruncatedSum sum(sums[column]);
      for (int k = first; k < first + truncation.at_once; ++k) {
        sum.add(factors.left[row][k], factors.right[k][column], smallest);
      }
      sums[column] = sum.result(truncation.kept_bits);
    }
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
    if (products_are_truncated) {
      add_truncated_products(factors, row, kType, sums);
    } else {
      add_products(factors, row, sums);
    }
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

void truncate_products(bool on) { products_are_truncated = on; }

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
