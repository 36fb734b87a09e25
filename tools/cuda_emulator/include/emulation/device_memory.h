// Global memory, as kernels reach it.
//
// A device address is a number that no processor can dereference. These functions turn
// it into a place on the host, after checking the access; a kernel that goes around
// them ends in a segmentation fault.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "emulation/qualifiers.h"
#include "emulation/vector_types.h"

namespace emulator {

// Each checks the access, counts it, and returns where the bytes are. `constant` is for
// loads through the cache that does not see what the running kernel writes.
const void* locate_read(const void* address, size_t size);
const void* locate_constant_read(const void* address, size_t size);
// Of an asynchronous copy, which sees what the running kernel writes at no known time.
const void* locate_source_of_copy(const void* address, size_t size);
void* locate_write(void* address, size_t size);
void* locate_atomic(void* address, size_t size);

// The types that CUDA can load and store: others would compile here and not there.
template <typename T>
struct IsLoadable
    : std::bool_constant<std::is_arithmetic_v<T> && !std::is_same_v<T, bool> &&
                         !std::is_same_v<T, long double>> {};
template <>
struct IsLoadable<int2> : std::true_type {};
template <>
struct IsLoadable<int4> : std::true_type {};
template <>
struct IsLoadable<uint2> : std::true_type {};
template <>
struct IsLoadable<uint4> : std::true_type {};
template <>
struct IsLoadable<float2> : std::true_type {};
template <>
struct IsLoadable<float4> : std::true_type {};
template <>
struct IsLoadable<double2> : std::true_type {};

// A parameter that T is not deduced from: a store converts its value to the address's
// type, as CUDA's overloads do.
template <typename T>
struct Identity {
  using type = T;
};
template <typename T>
using ConvertedTo = typename Identity<T>::type;

// Inlined, so that each access in a kernel has a return address of its own to be
// counted under.
template <typename T>
__forceinline__ T value_at(const void* place) {
  static_assert(IsLoadable<T>::value, "CUDA has no load of this type");
  T value;
  std::memcpy(&value, place, sizeof value);
  return value;
}

template <typename T>
__forceinline__ void store(T* address, T value) {
  static_assert(IsLoadable<T>::value, "CUDA has no store of this type");
  std::memcpy(locate_write(address, sizeof value), &value, sizeof value);
}

template <typename T>
__forceinline__ T add(T* address, T amount) {
  void* place = locate_atomic(address, sizeof amount);
  const T before = value_at<T>(place);
  // As unsigned numbers, for those may overflow.
  using Unsigned = std::make_unsigned_t<T>;
  const Unsigned after = static_cast<Unsigned>(before) + static_cast<Unsigned>(amount);
  std::memcpy(place, &after, sizeof after);
  return before;
}

}  // namespace emulator

template <typename T>
__forceinline__ T __ldg(const T* address) {
  return emulator::value_at<T>(emulator::locate_constant_read(address, sizeof(T)));
}
template <typename T>
__forceinline__ T __ldcg(const T* address) {
  return emulator::value_at<T>(emulator::locate_read(address, sizeof(T)));
}
template <typename T>
__forceinline__ void __stcg(T* address, emulator::ConvertedTo<T> value) {
  emulator::store<T>(address, value);
}
template <typename T>
__forceinline__ void __stcs(T* address, emulator::ConvertedTo<T> value) {
  emulator::store<T>(address, value);
}

__forceinline__ int atomicAdd(int* address, int amount) {
  return emulator::add(address, amount);
}
__forceinline__ unsigned atomicAdd(unsigned* address, unsigned amount) {
  return emulator::add(address, amount);
}
__forceinline__ unsigned long long atomicAdd(unsigned long long* address,
                                             unsigned long long amount) {
  return emulator::add(address, amount);
}

// One thread runs at a time, and what it stores is seen at once.
inline void __threadfence() {}
inline void __threadfence_block() {}
