// Ways to run a parallel loop: no two of them may give different bits.
#pragma once

#include <string>
#include <vector>

#include "core/parallel_for.h"
#include "thread_pool.h"

namespace negative_cosine {

// The whole loop at once, on the calling thread.
ParallelFor at_once();

// Single items from the last to the first, on the calling thread.
ParallelFor backwards();

// Every item on one of `num_threads` threads, which do not wait for one another: what
// one reads and another writes is a race that ThreadSanitizer sees.
ParallelFor interleaved(int num_threads, ThreadPool* pool);

// The package's own loop.
ParallelFor shared_rows(int num_threads, ThreadPool* pool);

// The same with helpers that start when the loop has returned.
class LateHelpers {
 public:
  ParallelFor parallel_for(int num_threads);
  size_t count() const { return closures_.size(); }
  void run() const;

 private:
  std::vector<std::function<void()>> closures_;
};

}  // namespace negative_cosine
