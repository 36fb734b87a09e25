// Ways to run a parallel loop: no two of them may give different bits.
#pragma once

#include <string>
#include <vector>

#include "core/parallel_for.h"
#include "cpu/device/float_mode.h"
#include "thread_pool.h"

namespace negative_cosine {

#if defined(__aarch64__)
constexpr uint64_t kFlushToZero = cpu::kDefaultFloatMode | 1u << 24;  // FZ
#else
constexpr uint64_t kFlushToZero = cpu::kDefaultFloatMode | 0x8040;  // FTZ and DAZ
#endif

// The whole loop at once, on the calling thread.
ParallelFor at_once();

// Single items from the last to the first, on the calling thread.
ParallelFor backwards();

// Every item on one of `num_threads` threads, which do not wait for one another: what
// one reads and another writes is a race that ThreadSanitizer sees.
ParallelFor interleaved(int num_threads, ThreadPool* pool);

// The package's own loop.
ParallelFor shared_rows(int num_threads, ThreadPool* pool);

// The same where the caller's thread (while the object lives) and all helpers flush
// subnormal numbers to zero, as a framework's threads may.
class FlushingThreads {
 public:
  ParallelFor shared_rows(int num_threads, ThreadPool* pool) const;

 private:
  cpu::ScopedFloatMode flushing_{kFlushToZero};
};

// The package's own loop with helpers that start when the loop has returned.
class LateHelpers {
 public:
  ParallelFor parallel_for(int num_threads);
  size_t count() const { return closures_.size(); }
  void run() const;

 private:
  std::vector<std::function<void()>> closures_;
};

}  // namespace negative_cosine
