// Conversions between float and the two 16-bit types, written from IEEE 754's words.
//
// A small float is sign, exponent, fraction. They share nothing with the
// sources that the emulator runs, so that tests can compare the two.
#pragma once

#include <math.h>

#include <cstdint>

#include "emulation/device_math.h"

namespace emulator {

template <int kExponentBits, int kFractionBits>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kExponentOfInfinity = (1 << kExponentBits) - 1;

  // A finite value is whole_number * 2^exponent: exact in a float.
  static float to_float(uint16_t bits) {
    const int sign = bits >> (kExponentBits + kFractionBits);
    const int exponent = (bits >> kFractionBits) & kExponentOfInfinity;
    const int fraction = bits & ((1 << kFractionBits) - 1);
    float magnitude;
    if (exponent == kExponentOfInfinity) {
      magnitude = fraction == 0 ? HUGE_VALF : nanf("");
    } else if (exponent == 0) {
      magnitude = ldexpf(static_cast<float>(fraction), 1 - kBias - kFractionBits);
    } else {
      const int whole_number = fraction | (1 << kFractionBits);
      magnitude =
          ldexpf(static_cast<float>(whole_number), exponent - kBias - kFractionBits);
    }
    return sign != 0 ? -magnitude : magnitude;
  }

  static uint16_t round_to_nearest_even(float value) {
    if (isnan(value)) return (1 << (kExponentBits + kFractionBits)) - 1;
    const unsigned sign = signbit(value) ? 1u : 0u;
    return static_cast<uint16_t>((sign << (kExponentBits + kFractionBits)) |
                                 magnitude_of(fabsf(value)));
  }

 private:
  // The value in units of the spacing of small floats around it, rounded. Adding the
  // spacing's exponent to that lets a carry out of the fraction become the next
  // exponent, and past the last one infinity.
  static unsigned magnitude_of(float value) {
    if (isinf(value)) return kExponentOfInfinity << kFractionBits;
    if (value == 0.0f) return 0;
    int exponent;  // value is in [2^(exponent - 1), 2^exponent)
    frexp(static_cast<double>(value), &exponent);
    const int biased = exponent - 1 + kBias;
    if (biased >= kExponentOfInfinity) return kExponentOfInfinity << kFractionBits;
    const int spacing = (biased < 1 ? 1 : biased) - kBias - kFractionBits;
    // rint ties to even in the default rounding mode.
    const double units = rint(ldexp(static_cast<double>(value), -spacing));
    const int implicit_bit = biased < 1 ? 0 : (biased - 1) << kFractionBits;
    return static_cast<unsigned>(static_cast<int>(units) + implicit_bit);
  }
};

using Binary16 = SmallFloat<5, 10>;
using BFloat16 = SmallFloat<8, 7>;

}  // namespace emulator
