// The floating-point mode of the kernels: round to nearest, subnormals kept.
//
// A framework's threads may flush subnormals to zero while the caller's thread does
// not; results would then depend on which thread computed a row.
// On other processors than x86-64 the mode is left as it is found.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace negative_cosine::cpu {

class ScopedFloatMode {
 public:
#if defined(__x86_64__)
  ScopedFloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(kDefault); }
  ~ScopedFloatMode() { _mm_setcsr(saved_); }
#else
  ScopedFloatMode() {}  // were it defaulted, a compiler would call the objects unused
#endif
  ScopedFloatMode(const ScopedFloatMode&) = delete;
  ScopedFloatMode& operator=(const ScopedFloatMode&) = delete;

#if defined(__x86_64__)
 private:
  static constexpr unsigned kDefault = 0x1f80;  // the mode a process starts in
  const unsigned saved_;
#endif
};

}  // namespace negative_cosine::cpu
