// CUDA's bfloat16, as far as the kernels use it.
#pragma once

#include "emulation/device_memory.h"
#include "emulation/small_floats.h"

struct __nv_bfloat16 {
  uint16_t bits;
};

template <>
struct emulator::IsLoadable<__nv_bfloat16> : std::true_type {};

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }

inline float __bfloat162float(__nv_bfloat16 value) {
  return emulator::BFloat16::to_float(value.bits);
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return {emulator::BFloat16::round_to_nearest_even(value)};
}
