// Arrays in the shared memory that a launch asks for, beyond the 48 KiB that a kernel
// may declare: every thread of a block takes them in the same order.
#pragma once

#include <cuda_runtime.h>

#include "cuda/device/shared_bytes.h"

namespace negative_cosine {
namespace cuda {

// An element of an array in shared memory, taken or declared: every such array is
// declared by this name.
template <typename Value>
using SharedElement = Value;

class SharedArrays {
 public:
  __device__ __forceinline__ SharedArrays() {
    extern __shared__ __align__(128) unsigned char memory[];
    next_ = memory;
  }

  template <typename Element>
  __device__ __forceinline__ Element* take(int count) {
    auto* array = reinterpret_cast<Element*>(next_);
    next_ += shared_bytes(count, sizeof(Element));
    return array;
  }

 protected:
  __device__ __forceinline__ explicit SharedArrays(unsigned char* memory)
      : next_(memory) {}

 private:
  unsigned char* next_;
};

// The same from a multiple of 1024 bytes on, for arrays in PTX's 128-byte swizzle,
// which depends on the address. Who launches adds kSwizzledSlack bytes, as variables of
// the block may come first.
constexpr int kSwizzleAlignment = 1024;
constexpr int kSwizzledSlack = kSwizzleAlignment - kSharedAlignment;

class SwizzledSharedArrays : public SharedArrays {
 public:
  __device__ __forceinline__ SwizzledSharedArrays() : SharedArrays(first_byte()) {}

 private:
  __device__ __forceinline__ static unsigned char* first_byte() {
    extern __shared__ __align__(kSwizzleAlignment) unsigned char swizzled_memory[];
    return swizzled_memory;
  }
};

// Neighbouring elements by one instruction.
template <typename Bits, typename Storage>
__device__ __forceinline__ Bits read_bits(const Storage* from) {
  return *reinterpret_cast<const Bits*>(from);
}

static __device__ __forceinline__ void write_packet(const float (&values)[4],
                                                    float* to) {
  *reinterpret_cast<float4*>(to) =
      make_float4(values[0], values[1], values[2], values[3]);
}

}  // namespace cuda
}  // namespace negative_cosine
