// Counts what a launch asks of global memory, when a test wants to know, and calls of
// CUDA's API.
#pragma once

#include <cstddef>

#include "emulation/emulator.h"
#include "emulation/tiles.h"

namespace emulator {

enum class Access { kRead, kWrite };

extern bool traffic_is_counted;

// Of the function of CUDA's API with that name, in any case.
void count_call(const char* function);

void begin_launch_in_traffic(const cudaLaunchConfig_t& config);
// Closes the books on the accesses of a block's warps.
void end_block_in_traffic();

// `site` tells the accesses in a kernel's code apart.
void count_access(Access access, const void* site, const void* address, size_t size);
void count_atomic();

// Packets of 16 bytes in shared memory, whose 32 banks of 4 bytes hold eight at a time.
constexpr int kPacketsOfBanks = 8;
constexpr int kLanesOfPackets = 8;
// The turns that eight lanes' packets take, by their places in shared memory: different
// ones in the same banks wait for each other.
unsigned turns_of_packets(const unsigned (&places)[kLanesOfPackets]);

// A matrix that was loaded from shared memory in so many turns.
void count_matrix(unsigned turns);
// A packet that the running thread reads or writes there.
void count_packet(const void* site, unsigned place);

}  // namespace emulator
