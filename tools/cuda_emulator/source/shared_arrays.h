// The arrays that the block that runs has taken, and where a device would have them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/shared_element.h"

namespace emulator {

struct ElementInArray {
  uint16_t bits;
  SharedHistory* history;
};

// The number of the array of 16-bit elements that has that byte of shared memory. A
// fault of the running thread where there is none that a product can read.
size_t array_at(const char* access, unsigned place);
ElementInArray element_at(const char* access, size_t array, unsigned place);

void begin_launch_in_shared_arrays(size_t bytes);
void begin_block_in_shared_arrays();

// Where in shared memory the bytes start that an element is the first of. A fault of
// the running thread where they leave their array or are not aligned to their number.
unsigned locate_in_shared_arrays(const char* access, const void* element, int bytes);

}  // namespace emulator
