// Where in shared memory the elements of a product's factor lie, of 16 bits each.
//
// A matrix is made of rows of 128 bytes, eight of them one behind the other: either a
// row holds elements along the depth, for one row or column of the product, or elements
// along its columns, for one step of the depth. The 16-byte pieces of a row change
// places by the row's number among eight, which the address tells.
#pragma once

#include <cstdint>

namespace emulator {

enum class Major { kDepth, kColumns };

struct SharedMatrix {
  unsigned start;
  unsigned leading;  // bytes between blocks of 64 columns, where those are in a row
  unsigned stride;   // bytes between eights of rows
  Major major;

  // Of a row of the left factor, or of a column of the right one.
  unsigned place_of(unsigned line, unsigned k) const;
};

// A fault where it is none that a product can read.
SharedMatrix matrix_of(const char* product, uint64_t descriptor, Major major);

}  // namespace emulator
