// One element of shared memory, which finds missing barriers.
//
// It remembers who wrote and read it since which barrier, so that a missing barrier is
// found whatever order the threads happen to run in: if the right order hides the fault
// from the reader, the writer still meets the reader's trace.
#pragma once

#include <cstdint>

#include "emulation/qualifiers.h"

// How code under csrc declares what `__shared__` arrays hold.
#define NEGATIVE_COSINE_SHARED_ELEMENT emulator::SharedElement

namespace emulator {

// Zero bits stand for "never": a static array of these needs no construction.
class SharedHistory {
 public:
  void on_read();
  void on_write();

 private:
  enum class Scope : uint8_t { kOneThread, kOneWarp, kBlock };
  // Of one thread, or the last of several.
  struct Trace {
    uint64_t barriers;  // passed by the block, counted over all blocks
    uint64_t syncs;     // passed by the thread's warp
    unsigned thread;
    Scope scope;  // among whom the threads of this trace are
  };

  static Trace trace_of_the_running_thread();
  static bool may_clash(const Trace& earlier);

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

  SharedElement() = default;
  SharedElement(const SharedElement&) = delete;

 private:
  T value_;
  mutable SharedHistory history_;
};

}  // namespace emulator
