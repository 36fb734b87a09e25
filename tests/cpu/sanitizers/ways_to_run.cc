#include "ways_to_run.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "cpu/device/parallel_for.h"

namespace negative_cosine {
namespace {

using Work = std::function<void(int64_t begin, int64_t end)>;

// Waits until so many have arrived.
class Arrivals {
 public:
  explicit Arrivals(int missing) : missing_(missing) {}

  void arrive() {
    const std::lock_guard<std::mutex> lock(mutex_);
    --missing_;
    changed_.notify_one();
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return missing_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int missing_;
};

}  // namespace

ParallelFor at_once() {
  return [](int64_t count, int64_t, const Work& work) {
    if (count > 0) work(0, count);
  };
}

ParallelFor backwards() {
  return [](int64_t count, int64_t, const Work& work) {
    for (int64_t item = count - 1; item >= 0; --item) work(item, item + 1);
  };
}

ParallelFor interleaved(int num_threads, ThreadPool* pool) {
  return [num_threads, pool](int64_t count, int64_t, const Work& work) {
    Arrivals arrivals(num_threads);
    for (int thread = 0; thread < num_threads; ++thread) {
      pool->schedule([&, thread] {
        for (int64_t item = thread; item < count; item += num_threads) {
          work(item, item + 1);
        }
        arrivals.arrive();
      });
    }
    arrivals.wait();
  };
}

ParallelFor shared_rows(int num_threads, ThreadPool* pool) {
  return cpu::make_parallel_for(num_threads, [pool](std::function<void()> closure) {
    pool->schedule(std::move(closure));
  });
}

ParallelFor FlushingThreads::shared_rows(int num_threads, ThreadPool* pool) const {
  return cpu::make_parallel_for(num_threads, [pool](std::function<void()> closure) {
    pool->schedule([closure = std::move(closure)] {
      const cpu::ScopedFloatMode flushing(kFlushToZero);
      closure();
    });
  });
}

ParallelFor LateHelpers::parallel_for(int num_threads) {
  return cpu::make_parallel_for(num_threads, [this](std::function<void()> closure) {
    closures_.push_back(std::move(closure));
  });
}

void LateHelpers::run() const {
  for (const auto& closure : closures_) closure();
}

}  // namespace negative_cosine
