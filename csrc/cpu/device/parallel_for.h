// A parallel loop over rows that never waits for a thread that has not started.
//
// The calling thread begins at once and takes one part of the rows after another;
// threads of the pool join it when they wake up. A pool that is busy or asleep thus
// costs its share of the speed and no more, where a loop that divides the rows
// beforehand waits for its slowest thread: waking one takes as long as hundreds of
// rows.
#pragma once

#include <functional>

#include "core/export.h"
#include "core/parallel_for.h"

namespace negative_cosine::cpu {

// Runs a closure on another thread, some time: a thread pool's Schedule.
using Schedule = std::function<void(std::function<void()> closure)>;

// At most `num_threads` threads work at once, the caller among them.
NEGATIVE_COSINE_API ParallelFor make_parallel_for(int num_threads, Schedule schedule);

}  // namespace negative_cosine::cpu
