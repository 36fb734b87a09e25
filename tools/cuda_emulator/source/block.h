// Runs the blocks of a launch, one after another.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

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
unsigned warps_of_block();

// --- Threads that wait for what other warps do -------------------------------------

// What one waits for, to be told if nobody comes.
struct Parked {
  std::string (*text)(const Parked& parked);
  unsigned what;
  unsigned detail;
};

// The running thread goes on when another one wakes it.
void park(const Parked& parked);
void wake(unsigned thread);

// --- Clocks ------------------------------------------------------------------------

// `now.syncs` is the running thread's clock: it ticks where what the thread did before
// is told from what it does afterwards.
void tick();
// All lanes' clocks go on from the same moment.
void synchronise_warp(unsigned warp);
uint32_t syncs_of(unsigned warp);  // when that was last

}  // namespace emulator
