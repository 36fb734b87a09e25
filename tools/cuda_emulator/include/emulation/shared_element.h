// One element of shared memory, which finds missing barriers.
//
// It remembers who wrote and read it since which barrier, so that a missing barrier is
// found whatever order the threads happen to run in: if the right order hides the fault
// from the reader, the writer still meets the reader's trace.
//
// Sources declare what `__shared__` arrays hold as SharedElement<T>.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/qualifiers.h"

namespace emulator {

// When the thread that runs does what it does: the scheduler keeps it up to date.
struct Moment {
  uint64_t barriers;                    // passed by the block, counted over all blocks
  uint64_t barriers_at_start_of_block;  // so counted
  uint32_t syncs;      // passed by the thread's warp: its clock, see source/order.h
  uint32_t last_sync;  // what the clock was then
  uint16_t thread;     // its number in the block
};

extern Moment now;

// Zero bits stand for "never": a static array of these needs no construction. Inlined
// is what most accesses need.
class SharedHistory {
 public:
  void on_read() {
    // Marks wrap around to large numbers here, as do earlier blocks' barriers.
    if (write_.barriers - now.barriers_at_start_of_block >
        now.barriers - now.barriers_at_start_of_block) {
      raise_unreadable();
    }
    if (write_.barriers == now.barriers) check_read_after_write();
    if (read_.barriers != now.barriers) {
      read_ = trace_of_the_running_thread();
    } else if (read_.scope != Scope::kBlock &&
               (read_.thread != now.thread || read_.syncs != now.syncs)) {
      add_reader();
    }
  }
  void on_write() {
    if (write_.barriers >= kArrivalBarrier) raise_if_closed("write to");
    if (write_.barriers == now.barriers || read_.barriers == now.barriers)
      check_write();
    write_ = trace_of_the_running_thread();
  }

  // From its start to the wait of the thread that started it, nobody may touch what a
  // copy writes; then it counts as written by that thread.
  void on_start_of_copy();
  void on_arrival();
  // From then on nobody may read or write what is a barrier.
  void on_set_up_of_barrier();
  // As on_read(), of what reaches shared memory another way than threads do.
  void on_read_by_product();
  void mark_out_of_bounds() { write_.barriers = kOutOfBounds; }

 private:
  // In place of a number of barriers: of an element that is a barrier itself, of one
  // that no thread may touch, and of one that a copy is under way to.
  static constexpr uint64_t kArrivalBarrier = ~uint64_t{2};
  static constexpr uint64_t kOutOfBounds = ~uint64_t{1};
  static constexpr uint64_t kUnderWay = ~uint64_t{0};

  static constexpr uint16_t kNobody = 0xffff;

  // Listed ones are in a list of their own, see source/readers.h: `syncs` is its
  // number.
  enum class Scope : uint8_t { kOneThread, kOneWarp, kBlock, kListed };
  // Of one thread, or the last of several.
  struct Trace {
    uint64_t barriers;
    uint32_t syncs;
    uint16_t thread;
    Scope scope;  // among whom the threads of this trace are
  };

  static Trace trace_of_the_running_thread() {
    return {now.barriers, now.syncs, now.thread, Scope::kOneThread};
  }
  static bool may_clash(const Trace& earlier);
  void check_read_after_write() const;
  void add_reader();
  void list_reader();
  void check_write();
  void check_listed_readers();
  [[noreturn]] static void raise_write_after_read(unsigned reader, uint32_t clock);
  void raise_if_closed(const char* access) const;
  [[noreturn]] void raise_unreadable() const;

  Trace write_;
  Trace read_;
};

template <typename T>
class SharedElement {
 public:
  operator T() const {
    history_.on_read();
    return value_;
  }
  SharedElement& operator=(T value) {
    history_.on_write();
    value_ = value;
    return *this;
  }
  SharedElement& operator=(const SharedElement& other) {
    return *this = static_cast<T>(other);
  }
  SharedElement& operator+=(T amount) { return *this = static_cast<T>(*this) + amount; }

  // Returns whom to tell when the copy has arrived.
  SharedHistory* start_copy(T value) {
    history_.on_start_of_copy();
    value_ = value;
    return &history_;
  }
  void mark_out_of_bounds() { history_.mark_out_of_bounds(); }
  void set_up_barrier() { history_.on_set_up_of_barrier(); }

  // Where its history is, from the start of an element.
  static constexpr size_t history_offset() { return offsetof(SharedElement, history_); }

  SharedElement() = default;
  SharedElement(const SharedElement&) = delete;

 private:
  T value_;
  mutable SharedHistory history_;
};

}  // namespace emulator
