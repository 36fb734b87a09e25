// The arithmetic that CUDA has and C++ has not, rounded to nearest as CUDA does.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>

#include "emulation/qualifiers.h"

namespace emulator {

template <typename To, typename From>
To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace emulator

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __clzll(long long value) {
  return value == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(value));
}
inline unsigned __umulhi(unsigned left, unsigned right) {
  return static_cast<unsigned>((static_cast<uint64_t>(left) * right) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long left,
                                     unsigned long long right) {
  __extension__ using Product = unsigned __int128;
  return static_cast<unsigned long long>((static_cast<Product>(left) * right) >> 64);
}

inline unsigned __float_as_uint(float value) {
  return emulator::reinterpret<unsigned>(value);
}
inline int __float_as_int(float value) { return emulator::reinterpret<int>(value); }
inline float __uint_as_float(unsigned bits) {
  return emulator::reinterpret<float>(bits);
}
inline float __int_as_float(int bits) { return emulator::reinterpret<float>(bits); }
inline long long __double_as_longlong(double value) {
  return emulator::reinterpret<long long>(value);
}
inline double __longlong_as_double(long long bits) {
  return emulator::reinterpret<double>(bits);
}

inline double __hiloint2double(int high, int low) {
  const uint64_t bits = static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 |
                        static_cast<uint32_t>(low);
  return emulator::reinterpret<double>(bits);
}
inline int __double2hiint(double value) {
  return static_cast<int>(emulator::reinterpret<uint64_t>(value) >> 32);
}
inline int __double2loint(double value) {
  return static_cast<int>(emulator::reinterpret<uint64_t>(value));
}

inline float __fadd_rn(float left, float right) { return left + right; }
inline float __fsub_rn(float left, float right) { return left - right; }
inline float __fmul_rn(float left, float right) { return left * right; }
inline float __fdiv_rn(float left, float right) { return left / right; }
inline float __fmaf_rn(float left, float right, float addend) {
  return fmaf(left, right, addend);
}
inline float __frcp_rn(float value) { return 1.0f / value; }
inline float __fsqrt_rn(float value) { return sqrtf(value); }
inline double __dadd_rn(double left, double right) { return left + right; }
inline double __dmul_rn(double left, double right) { return left * right; }
inline double __fma_rn(double left, double right, double addend) {
  return fma(left, right, addend);
}
inline double __drcp_rn(double value) { return 1.0 / value; }
inline double __dsqrt_rn(double value) { return sqrt(value); }

// CUDA's own are off by up to two units in the last place.
inline float rsqrtf(float value) {
  return static_cast<float>(1.0 / sqrt(static_cast<double>(value)));
}
inline double rsqrt(double value) { return 1.0 / sqrt(value); }

inline int min(int left, int right) { return right < left ? right : left; }
inline unsigned min(unsigned left, unsigned right) {
  return right < left ? right : left;
}
inline long min(long left, long right) { return right < left ? right : left; }
inline unsigned long min(unsigned long left, unsigned long right) {
  return right < left ? right : left;
}
inline long long min(long long left, long long right) {
  return right < left ? right : left;
}
inline unsigned long long min(unsigned long long left, unsigned long long right) {
  return right < left ? right : left;
}
// Of a number and a NaN: the number, as CUDA says.
inline float min(float left, float right) { return fminf(left, right); }
inline double min(double left, double right) { return fmin(left, right); }

inline int max(int left, int right) { return left < right ? right : left; }
inline unsigned max(unsigned left, unsigned right) {
  return left < right ? right : left;
}
inline long max(long left, long right) { return left < right ? right : left; }
inline unsigned long max(unsigned long left, unsigned long right) {
  return left < right ? right : left;
}
inline long long max(long long left, long long right) {
  return left < right ? right : left;
}
inline unsigned long long max(unsigned long long left, unsigned long long right) {
  return left < right ? right : left;
}
inline float max(float left, float right) { return fmaxf(left, right); }
inline double max(double left, double right) { return fmax(left, right); }
