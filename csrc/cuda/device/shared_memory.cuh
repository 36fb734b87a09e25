// Neighbouring elements of a row in shared memory, as numbers.
#pragma once

#include "cuda/device/device.cuh"
#include "cuda/device/shared_arrays.cuh"
#include "cuda/device/shared_bytes.h"

namespace negative_cosine {
namespace cuda {

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
