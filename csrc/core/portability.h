// Qualifiers for the few functions that host and device code share.
//
// `static` matters on the host: the CPU kernels are compiled once per instruction set,
// and a shared inline function would let the linker keep the copy that uses
// instructions the running processor lacks.
#pragma once

#if defined(__CUDACC__)
#define NEGATIVE_COSINE_INLINE static __forceinline__ __host__ __device__
#else
#define NEGATIVE_COSINE_INLINE static inline __attribute__((always_inline, unused))
#endif
