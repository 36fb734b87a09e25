// Qualifiers for the few functions that host and device code share.
//
// `static` matters on the host: the CPU kernels are compiled once per instruction set,
// and a shared inline function would let the linker keep the copy that uses
// instructions the running processor lacks.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define NEGATIVE_COSINE_INLINE static __forceinline__ __host__ __device__
#define NEGATIVE_COSINE_INLINE_MEMBER __forceinline__ __host__ __device__
#define NEGATIVE_COSINE_INLINE_HOST static inline
#else
#define NEGATIVE_COSINE_INLINE static inline __attribute__((always_inline, unused))
#define NEGATIVE_COSINE_INLINE_MEMBER __attribute__((always_inline))
#define NEGATIVE_COSINE_INLINE_HOST NEGATIVE_COSINE_INLINE
#endif

namespace negative_cosine {

// Reads one value of the caller's memory, which no kernel writes.
template <typename Value>
NEGATIVE_COSINE_INLINE Value load_value(const Value* address) {
#if defined(__CUDA_ARCH__)
  return __ldg(address);  // through the cache for data that stays as it is
#else
  return *address;
#endif
}

NEGATIVE_COSINE_INLINE int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace negative_cosine
