// A load under a condition, without a branch.
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

}  // namespace cuda
}  // namespace negative_cosine
