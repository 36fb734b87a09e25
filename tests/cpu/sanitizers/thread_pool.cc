#include "thread_pool.h"

#include <utility>

namespace negative_cosine {

ThreadPool::ThreadPool(int num_threads) {
  for (int i = 0; i < num_threads; ++i)
    threads_.emplace_back([this] { run_closures(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::schedule(std::function<void()> closure) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closures_.push_back(std::move(closure));
  }
  changed_.notify_one();
}

void ThreadPool::run_closures() {
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return ends_ || !closures_.empty(); });
    if (closures_.empty()) return;
    const std::function<void()> closure = std::move(closures_.front());
    closures_.pop_front();
    lock.unlock();
    closure();
  }
}

}  // namespace negative_cosine
