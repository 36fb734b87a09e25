// The shared memory that a launch asks for, beyond the 48 KiB that a kernel may
// declare: arrays that every thread of a block takes in the same order.
#pragma once

#include "cuda/device/device.cuh"

namespace negative_cosine {
namespace cuda {

// Each array starts at a multiple of it: a row of all 32 banks.
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

// 16 bytes of a row.
template <typename Storage, typename Real, int kCount>
__device__ __forceinline__ void read_packet(const SharedElement<Storage>* from,
                                            Real (&values)[kCount]) {
  unpack(read_bits<uint4, Storage>(from), static_cast<const Storage*>(nullptr), values);
}

// Two elements, of which the first has an even number.
__device__ __forceinline__ void read_pair(const SharedElement<float>* from,
                                          float (&values)[2]) {
  const float2 pair = read_bits<float2, float>(from);
  values[0] = pair.x;
  values[1] = pair.y;
}
__device__ __forceinline__ void read_pair(const SharedElement<double>* from,
                                          double (&values)[2]) {
  const double2 pair = read_bits<double2, double>(from);
  values[0] = pair.x;
  values[1] = pair.y;
}
template <typename Storage>
__device__ __forceinline__ void read_pair(const SharedElement<Storage>* from,
                                          float (&values)[2]) {
  unpack_pair(read_bits<uint32_t, Storage>(from), Storage{}, values);
}

}  // namespace cuda
}  // namespace negative_cosine
