// The shared memory that a launch asks for, beyond the 48 KiB that a kernel may
// declare: arrays that every thread of a block takes in the same order.
#pragma once

#include "cuda/device.cuh"

namespace negative_cosine {
namespace cuda {

// Each array starts at a multiple of it: a row of all 32 banks.
constexpr int kSharedAlignment = 128;

constexpr int shared_bytes(int64_t count, int size) {
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

}  // namespace cuda
}  // namespace negative_cosine
