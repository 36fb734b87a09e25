// The sums of products, and the numbers that are multiplied.
#include "sums.h"

#include <math.h>

#include <algorithm>
#include <vector>

#include "device.h"
#include "emulation/device_math.h"
#include "emulation/emulator.h"
#include "emulation/small_floats.h"

namespace emulator {
namespace {

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

// --- Rounded to nearest ------------------------------------------------------------

// Onto the sum that was there, product by product in the order of the left's columns,
// each addition rounded to float32. A product of two such numbers is exact in float32
// unless it leaves float32's range, and subnormal numbers stay what they are. A GPU's
// sums differ in the last bits: see below.
void add_rounded_products(const float* left, const float (*right)[8], int depth,
                          float (&sums)[8]) {
  float latest[8];  // which nothing else can be: they stay in registers
  std::copy_n(sums, 8, latest);
  for (int k = 0; k < depth; ++k) {
    for (int column = 0; column < 8; ++column) {
      latest[column] += left[k] * right[k][column];
    }
  }
  std::copy_n(latest, 8, sums);
}

// --- Cut off -----------------------------------------------------------------------

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

void add_truncated_products(const float* left, const float (*right)[8], int depth,
                            Factor type, float (&sums)[8]) {
  const int smallest = type == Factor::kFloat16 ? -14 : kSmallestExponent;
  const Truncation truncation = truncation_of_device(depth);
  for (int column = 0; column < 8; ++column) {
    for (int first = 0; first < depth; first += truncation.at_once) {
      TruncatedSum sum(sums[column]);
      for (int k = first; k < first + truncation.at_once; ++k) {
        sum.add(left[k], right[k][column], smallest);
      }
      sums[column] = sum.result(truncation.kept_bits);
    }
  }
}

}  // namespace

void truncate_products(bool on) { products_are_truncated = on; }

float value_of(uint32_t bits, Factor type) {
  return type == Factor::kBFloat16 ? reinterpret<float>(bits << 16)
                                   : floats_of_halves()[bits];
}

void add_products(const float* left, const float (*right)[8], int depth, Factor type,
                  float (&sums)[8]) {
  if (products_are_truncated) {
    add_truncated_products(left, right, depth, type, sums);
  } else {
    add_rounded_products(left, right, depth, sums);
  }
}

}  // namespace emulator
