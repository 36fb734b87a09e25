// Loads under a condition, without a branch.
#pragma once

#include <cuda_runtime.h>

namespace negative_cosine {
namespace cuda {

__device__ static uint4 zeros;

// 16 bytes, or zeros where they are not wanted: what is dropped is never read. A lane
// that wants nothing reads zeros of our own, because a load under a condition gets a
// select behind it from the compiler, and then waits before the next one starts.
static __device__ __forceinline__ uint4 load_if(bool wanted, const void* address) {
  return __ldg(wanted ? static_cast<const uint4*>(address) : &zeros);
}

// The same of 8, 4 or 2 bytes: two words, or one, or half of one. There are many of
// these for one of 16 bytes, so they take the condition as their own and need no
// address to fall back on.
template <int kBytes>
__device__ __forceinline__ uint2 load_piece_if(bool wanted, const void* address) {
  uint2 piece = make_uint2(0, 0);
  if constexpr (kBytes == 8) {
    asm volatile(
        "{ .reg .pred wanted; setp.ne.u32 wanted, %2, 0;"
        " @wanted ld.global.nc.v2.u32 {%0, %1}, [%3]; }"
        : "+r"(piece.x), "+r"(piece.y)
        : "r"(wanted ? 1 : 0), "l"(address));
  } else if constexpr (kBytes == 4) {
    asm volatile(
        "{ .reg .pred wanted; setp.ne.u32 wanted, %1, 0;"
        " @wanted ld.global.nc.u32 %0, [%2]; }"
        : "+r"(piece.x)
        : "r"(wanted ? 1 : 0), "l"(address));
  } else {
    asm volatile(
        "{ .reg .pred wanted; setp.ne.u32 wanted, %1, 0;"
        " @wanted ld.global.nc.u16 %0, [%2]; }"
        : "+r"(piece.x)
        : "r"(wanted ? 1 : 0), "l"(address));
  }
  return piece;
}

}  // namespace cuda
}  // namespace negative_cosine
