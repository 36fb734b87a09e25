// Counts what a launch asks of global memory, when a test wants to know.
#pragma once

#include <cstddef>

#include "emulation/emulator.h"

namespace emulator {

enum class Access { kRead, kWrite };

extern bool traffic_is_counted;

void begin_launch_in_traffic(const cudaLaunchConfig_t& config);
// Closes the books on the accesses of a block's warps.
void end_block_in_traffic();

// `site` tells the accesses in a kernel's code apart.
void count_access(Access access, const void* site, const void* address, size_t size);
void count_atomic();
// Of one read of shared memory by several lanes: the turns that it takes, and those of
// them that its bank conflicts cost.
void count_shared_read(unsigned wavefronts, unsigned conflicts);

}  // namespace emulator
