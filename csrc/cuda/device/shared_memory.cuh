// The shared memory that a launch asks for, beyond the 48 KiB that a kernel may
// declare: arrays that every thread of a block takes in the same order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace negative_cosine {
namespace cuda {

// An element of an array in shared memory. The emulator has its own, which sees reads
// of what nothing wrote and missing barriers.
#if defined(NEGATIVE_COSINE_SHARED_ELEMENT)
template <typename Value>
using SharedElement = NEGATIVE_COSINE_SHARED_ELEMENT<Value>;
#else
template <typename Value>
using SharedElement = Value;
#endif

// Each array starts at a multiple of this, the bytes of all 32 banks.
constexpr int kSharedAlignment = 128;

__host__ __device__ constexpr int shared_bytes(int64_t count, int size) {
  return static_cast<int>((count * size + kSharedAlignment - 1) / kSharedAlignment *
                          kSharedAlignment);
}

#if defined(NEGATIVE_COSINE_EMULATION)
using SharedArrays = NEGATIVE_COSINE_SHARED_ARRAYS;
#else
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

 private:
  unsigned char* next_;
};
#endif

// --- Neighbouring elements of a row in shared memory ---------------------------------

#if defined(NEGATIVE_COSINE_EMULATION)
template <typename Bits, typename Storage>
Bits read_bits(const SharedElement<Storage>* from) {
  emulator::check_shared_access("read of", from, sizeof(Bits));
  constexpr int kCount = sizeof(Bits) / sizeof(Storage);
  Storage elements[kCount];
  for (int e = 0; e < kCount; ++e) elements[e] = from[e];
  Bits bits;
  std::memcpy(&bits, elements, sizeof bits);
  return bits;
}

inline void write_packet(const float (&values)[4], SharedElement<float>* to) {
  emulator::check_shared_access("write of", to, sizeof values);
  for (int e = 0; e < 4; ++e) to[e] = values[e];
}
#else
template <typename Bits, typename Storage>
__device__ __forceinline__ Bits read_bits(const Storage* from) {
  return *reinterpret_cast<const Bits*>(from);
}

static __device__ __forceinline__ void write_packet(const float (&values)[4],
                                                    float* to) {
  *reinterpret_cast<float4*>(to) =
      make_float4(values[0], values[1], values[2], values[3]);
}
#endif

}  // namespace cuda
}  // namespace negative_cosine
