// Runs the blocks of a launch, one after another.
#pragma once

#include <cstdint>
#include <functional>

#include "emulation/vector_types.h"

namespace emulator {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;

inline uint64_t count_of(const dim3& size) {
  return uint64_t{size.x} * size.y * size.z;
}

// Throws a Fault.
void run_grid(dim3 grid, dim3 block, const std::function<void()>& thread);

// The number in its block of the thread that runs.
unsigned running_thread();

// What shared memory needs to know about the running thread's past.
uint64_t barriers_passed();  // by all blocks so far
uint64_t barriers_at_start_of_block();
uint64_t syncs_passed_by_warp();

}  // namespace emulator
