// The floating-point mode of the kernels: round to nearest, subnormals kept.
//
// A framework's threads may flush subnormals to zero while the caller's thread does
// not; results would then depend on which thread computed a row.
// On other processors than x86-64 and 64-bit ARM the mode is left as it is found.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace negative_cosine::cpu {

// The register that holds the mode; kDefaultFloatMode is what a process starts in.
#if defined(__x86_64__)
constexpr uint64_t kDefaultFloatMode = 0x1f80;  // MXCSR: no exception is raised
inline uint64_t float_mode() { return _mm_getcsr(); }
inline void set_float_mode(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
constexpr uint64_t kDefaultFloatMode = 0;  // FPCR
inline uint64_t float_mode() {
  uint64_t mode;
  asm volatile("mrs %0, fpcr" : "=r"(mode));
  return mode;
}
inline void set_float_mode(uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
#else
constexpr uint64_t kDefaultFloatMode = 0;
inline uint64_t float_mode() { return kDefaultFloatMode; }
inline void set_float_mode(uint64_t) {}
#endif

class ScopedFloatMode {
 public:
  explicit ScopedFloatMode(uint64_t mode = kDefaultFloatMode) : saved_(float_mode()) {
    set_float_mode(mode);
  }
  ~ScopedFloatMode() { set_float_mode(saved_); }
  ScopedFloatMode(const ScopedFloatMode&) = delete;
  ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

 private:
  const uint64_t saved_;
};

}  // namespace negative_cosine::cpu
