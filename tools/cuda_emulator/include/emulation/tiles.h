// Asynchronous copies into shared memory, and the matrices that a warp multiplies.
//
// Shared memory must be that of SharedArrays here: only of its arrays does the emulator
// know where a device would put them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/shared_element.h"

namespace emulator {

// What one copy of 16 bytes moves, and one lane's row of a matrix is.
constexpr int kPacketBytes = 16;

// --- Asynchronous copies, see source/copies.cc -------------------------------------

// The histories of neighbouring elements, so many bytes apart.
struct ElementsOfCopy {
  SharedHistory* first;
  size_t stride;
  int count;
};

// Raises a fault where no copy may go to or from these addresses.
void check_copy(const void* to, const void* from, int bytes);
void add_copy(const ElementsOfCopy& elements);
void commit_copies();
void wait_for_copies(int pending);

// --- Matrices, see source/matrices.cc ----------------------------------------------

struct RowOfMatrix {
  uint16_t words[8];
  unsigned place;      // in shared memory, in bytes
  uint32_t* matrices;  // what the lane gets: four words
};

// Where in shared memory a row lies; a fault where none can start there.
unsigned place_of_row(const void* first_element);
void exchange_rows(RowOfMatrix* row, bool transposed);

enum class Factor { kFloat16, kBFloat16, kTf32 };

struct ProductOfMatrices {
  uint32_t left[4];
  uint32_t right[2];
  float* sums;  // four
};

void multiply(ProductOfMatrices* product, Factor type);

}  // namespace emulator
