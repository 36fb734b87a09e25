// The arrays that the block that runs has taken, and where a device would have them.
#pragma once

#include <cstddef>

namespace emulator {

void begin_launch_in_shared_arrays(size_t bytes);
void begin_block_in_shared_arrays();

// Where in shared memory the bytes start that an element is the first of. A fault of
// the running thread where they leave their array or are not aligned to their number.
unsigned locate_in_shared_arrays(const char* access, const void* element, int bytes);

}  // namespace emulator
