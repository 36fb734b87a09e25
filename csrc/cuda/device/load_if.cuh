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

// The same by a load under a condition, which needs no other address, and shares its
// own with its neighbours. It is for registers that are used as they are loaded: what
// is unpacked gets the select.
static __device__ __forceinline__ uint4 load_packet_if(bool wanted,
                                                       const void* address) {
  uint4 packet = make_uint4(0, 0, 0, 0);
  asm volatile(
      "{ .reg .pred wanted; setp.ne.u32 wanted, %4, 0;"
      " @wanted ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%5]; }"
      : "+r"(packet.x), "+r"(packet.y), "+r"(packet.z), "+r"(packet.w)
      : "r"(wanted ? 1 : 0), "l"(address));
  return packet;
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
