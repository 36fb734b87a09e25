// What happened before what in the block that runs: where __syncthreads is not all that
// orders its warps.
//
// Each thread has a clock, `now.syncs`, and for every other one the time up to which it
// knows what that has done. A thread that releases hands on all that it knows, and what
// it did itself until then; of its warp's other lanes, what they did in front of their
// last synchronisation. What a warp's products do counts as done by a thread of its
// own, whose clock counts those that are finished: every lane waits for them, and
// knows.
#pragma once

#include <cstdint>
#include <vector>

#include "block.h"

namespace emulator {

// Whether anything but barriers of the block or of a warp has ordered threads yet, in
// the launch that runs. Where not, nothing here is called.
extern bool order_is_kept;
void keep_order();

void begin_launch_in_order();
void begin_block_in_order(unsigned warps);

// In place of a thread's number, of what a warp's products do.
constexpr unsigned kFirstProducts = kMaxThreads;
constexpr unsigned warp_of_thread(unsigned thread) {
  return (thread < kFirstProducts ? thread / kWarpSize : thread - kFirstProducts);
}

// For every warp's products and every thread: what it did before that time.
using Clocks = std::vector<uint32_t>;

// By the running thread: `clocks` get what it hands on.
void release(Clocks* clocks);
void acquire(unsigned thread, const Clocks& clocks);
// Whether the running thread knows of all that.
bool knows(const Clocks& clocks);

// Of a barrier of these warps, or of all lanes of one: each knows what the others know.
void order_warps(const std::vector<unsigned>& warps);
void share_order_in_warp(unsigned warp);
// Of a barrier of the block, which tells all that came before apart by itself.
void order_block();

// Whether what a thread did at that time came before what the running one does.
bool happened_before(unsigned thread, uint32_t clock);

// --- Products ----------------------------------------------------------------------

uint32_t finished_products(unsigned warp);
void finish_products(unsigned warp, uint32_t count);

// --- Writes that products see ------------------------------------------------------

// From then on, what the running thread wrote before.
void show_writes();
// Whether what a thread wrote at that time was shown before what the running one does.
bool was_shown(unsigned thread, uint32_t clock);

}  // namespace emulator
