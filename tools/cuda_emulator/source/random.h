// A small generator (splitmix64) for random orders: the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace emulator {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  // The slight preference for some numbers does no harm here.
  uint64_t below(uint64_t bound) { return next() % bound; }

  template <typename T>
  void shuffle(T* values, size_t count) {
    for (size_t left = count; left > 1; --left) {
      std::swap(values[left - 1], values[below(left)]);
    }
  }

 private:
  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t mixed = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }

  uint64_t state_;
};

}  // namespace emulator
