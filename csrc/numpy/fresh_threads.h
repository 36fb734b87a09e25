// Threads for the CPU core where no framework brings a pool.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/device/parallel_for.h"
#include "numpy/loss_arguments.h"

namespace negative_cosine {

// A new thread for each helper: enough for tests.
class FreshThreads {
 public:
  ~FreshThreads() {
    for (std::thread& thread : threads_) thread.join();
  }

  ParallelFor parallel_for(int num_threads) {
    return cpu::make_parallel_for(num_threads, [this](std::function<void()> closure) {
      threads_.emplace_back(std::move(closure));
    });
  }

 private:
  std::vector<std::thread> threads_;
};

inline void check_num_threads(int num_threads) {
  require(num_threads >= 1,
          "num_threads must be at least 1, got " + std::to_string(num_threads));
}

}  // namespace negative_cosine
