// How much of a launch's shared memory an array takes, for kernels and their launches.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace negative_cosine {
namespace cuda {

// Each array starts at a multiple of it: a row of all 32 banks.
constexpr int kSharedAlignment = 128;

__host__ __device__ constexpr int shared_bytes(int64_t count, int size) {
  return static_cast<int>((count * size + kSharedAlignment - 1) / kSharedAlignment *
                          kSharedAlignment);
}

}  // namespace cuda
}  // namespace negative_cosine
