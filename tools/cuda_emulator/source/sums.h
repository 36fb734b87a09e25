// What tensor cores compute: sums of products.
#pragma once

#include <cstdint>

#include "emulation/tiles.h"

namespace emulator {

// Of one of the types of 16 bits.
float value_of(uint32_t bits, Factor type);

// One row of the left factor times eight columns of the right one, onto the sums.
void add_products(const float* left, const float (*right)[8], int depth, Factor type,
                  float (&sums)[8]);

}  // namespace emulator
