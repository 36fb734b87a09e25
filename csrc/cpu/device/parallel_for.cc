#include "cpu/device/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "cpu/device/float_mode.h"

namespace negative_cosine::cpu {
namespace {

// Parts of the rows below this many cycles (some microseconds) are not worth taking one
// by one.
constexpr int64_t kCyclesOfAPart = 20000;
// A loop below this many cycles is not worth another thread: one that sleeps takes as
// long to wake up, and it takes the place of a thread that had work.
constexpr int64_t kCyclesOfALoop = 200000;
constexpr int kPartsOfAThread = 8;
constexpr int kSpins = 2000;

using Work = std::function<void(int64_t begin, int64_t end)>;

// One loop's rows, shared by the threads that work on them. A thread that starts after
// the last part was taken finds nothing to do and touches only this object, which it
// keeps alive; the loop may have returned by then.
class SharedRows {
 public:
  SharedRows(int64_t count, int64_t rows_of_a_part, const Work* work)
      : count_(count),
        rows_of_a_part_(rows_of_a_part),
        parts_((count + rows_of_a_part - 1) / rows_of_a_part),
        work_(work) {}

  int64_t parts() const { return parts_; }

  void take_parts() {
    const ScopedFloatMode float_mode;
    for (;;) {
      const int64_t part = next_part_.fetch_add(1);
      if (part >= parts_) return;
      work_on(part);
      if (finished_parts_.fetch_add(1) + 1 == parts_) announce_end();
    }
  }

  // Returns when every part is finished; rethrows what the first failed one threw.
  void wait_for_end() {
    for (int spin = 0; spin < kSpins && !is_finished(); ++spin)
      std::this_thread::yield();
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this] { return is_finished(); });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  bool is_finished() const { return finished_parts_.load() == parts_; }

  // Out of memory, say: the other parts must not outlive the loop, so it is kept for
  // the caller.
  void work_on(int64_t part) {
    const int64_t begin = part * rows_of_a_part_;
    try {
      (*work_)(begin, std::min(begin + rows_of_a_part_, count_));
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void announce_end() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_.notify_all();
  }

  const int64_t count_;
  const int64_t rows_of_a_part_;
  const int64_t parts_;
  const Work* const work_;
  std::atomic<int64_t> next_part_{0};
  std::atomic<int64_t> finished_parts_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::exception_ptr failure_;
};

// Whether count * cost reaches kCyclesOfALoop; the product of large ones would not fit.
bool is_worth_helpers(int64_t count, int64_t cost) {
  return count > (kCyclesOfALoop - 1) / cost;
}

// A thread that cannot be had is one helper less.
void schedule_helpers(int64_t helpers, const Schedule& schedule,
                      const std::shared_ptr<SharedRows>& rows) {
  try {
    for (int64_t helper = 0; helper < helpers; ++helper) {
      schedule([rows] { rows->take_parts(); });
    }
  } catch (const std::exception&) {
  }
}

}  // namespace

ParallelFor make_parallel_for(int num_threads, Schedule schedule) {
  return [num_threads, schedule = std::move(schedule)](int64_t count, int64_t cost,
                                                       const Work& work) {
    if (count <= 0) return;
    cost = std::max<int64_t>(cost, 1);
    const int64_t smallest = std::max<int64_t>(kCyclesOfAPart / cost, 1);
    const int64_t most_parts = int64_t{num_threads} * kPartsOfAThread;
    const int64_t even = (count + most_parts - 1) / most_parts;
    const auto rows =
        std::make_shared<SharedRows>(count, std::max(smallest, even), &work);
    if (is_worth_helpers(count, cost)) {
      const int64_t helpers = std::min<int64_t>(num_threads, rows->parts()) - 1;
      schedule_helpers(helpers, schedule, rows);
    }
    rows->take_parts();
    rows->wait_for_end();
  };
}

}  // namespace negative_cosine::cpu
