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

}  // namespace emulator
