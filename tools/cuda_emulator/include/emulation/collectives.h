// What the threads of a warp or a block do together.
//
// Each function hands its arguments to the scheduler (source/block.cc), which
// lets the thread go on when all that it waits for have come.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation/qualifiers.h"

namespace emulator {

enum class Operation {
  kShuffle,
  kShuffleXor,
  kShuffleDown,
  kShuffleUp,
  kBallot,
  kAny,
  kAll,
  kMatchAny,
  kSyncWarp,
  kWarpCall
};

// What a whole warp computes together. Lanes hand over the addresses of their operands,
// and one call of the function serves all of them.
struct WarpCall {
  const char* name;
  void (*function)(void* const (&operands)[32]);
};

struct Collective {
  Operation operation;
  unsigned mask;
  unsigned value_size = 0;  // of a shuffle or a match, in bytes
  uint64_t value = 0;       // or the address of a call's operands
  unsigned operand = 0;     // a shuffle's lane, delta or lane mask
  int width = 32;
  const WarpCall* call = nullptr;
};

uint64_t take_part(const Collective& collective);
void synchronise_block();
unsigned lanes_that_run();

template <typename T>
uint64_t bits_of(T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "CUDA exchanges numbers of 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <typename T>
T shuffle(Operation operation, unsigned mask, T value, unsigned operand, int width) {
  const uint64_t bits =
      take_part({operation, mask, sizeof value, bits_of(value), operand, width});
  T result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline unsigned vote(Operation operation, unsigned mask, int predicate) {
  return static_cast<unsigned>(take_part({operation, mask, 0, predicate != 0}));
}

inline void take_part_in(const WarpCall& call, void* operands) {
  Collective collective{Operation::kWarpCall, 0xffffffffu};
  collective.value = reinterpret_cast<uint64_t>(operands);
  collective.call = &call;
  take_part(collective);
}

}  // namespace emulator

// Unary plus does what CUDA's overloads do: it widens small integers, and reads an
// element of shared memory.
template <typename T>
auto __shfl_sync(unsigned mask, const T& value, int source_lane, int width = 32) {
  return emulator::shuffle(emulator::Operation::kShuffle, mask, +value,
                           static_cast<unsigned>(source_lane), width);
}
template <typename T>
auto __shfl_xor_sync(unsigned mask, const T& value, int lane_mask, int width = 32) {
  return emulator::shuffle(emulator::Operation::kShuffleXor, mask, +value,
                           static_cast<unsigned>(lane_mask), width);
}
template <typename T>
auto __shfl_down_sync(unsigned mask, const T& value, unsigned delta, int width = 32) {
  return emulator::shuffle(emulator::Operation::kShuffleDown, mask, +value, delta,
                           width);
}
template <typename T>
auto __shfl_up_sync(unsigned mask, const T& value, unsigned delta, int width = 32) {
  return emulator::shuffle(emulator::Operation::kShuffleUp, mask, +value, delta, width);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return emulator::vote(emulator::Operation::kBallot, mask, predicate);
}
inline int __any_sync(unsigned mask, int predicate) {
  return static_cast<int>(emulator::vote(emulator::Operation::kAny, mask, predicate));
}
inline int __all_sync(unsigned mask, int predicate) {
  return static_cast<int>(emulator::vote(emulator::Operation::kAll, mask, predicate));
}
template <typename T>
unsigned __match_any_sync(unsigned mask, const T& value) {
  return static_cast<unsigned>(
      emulator::take_part({emulator::Operation::kMatchAny, mask, sizeof +value,
                           emulator::bits_of(+value)}));
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulator::take_part({emulator::Operation::kSyncWarp, mask});
}
inline void __syncthreads() { emulator::synchronise_block(); }

// The lanes that have not returned. A GPU may name fewer: those that happen to run
// together.
inline unsigned __activemask() { return emulator::lanes_that_run(); }
