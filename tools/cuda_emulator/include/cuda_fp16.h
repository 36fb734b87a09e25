// CUDA's half precision, as far as the kernels use it.
#pragma once

#include "emulation/device_memory.h"
#include "emulation/small_floats.h"

struct __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

template <>
struct emulator::IsLoadable<__half> : std::true_type {};
template <>
struct emulator::IsLoadable<__half2> : std::true_type {};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }

inline float __half2float(__half value) {
  return emulator::Binary16::to_float(value.bits);
}
inline __half __float2half_rn(float value) {
  return {emulator::Binary16::round_to_nearest_even(value)};
}
inline float2 __half22float2(__half2 pair) {
  return {__half2float(pair.x), __half2float(pair.y)};
}
