// Sums over a block of threads in a fixed order: a tree in each warp, then the warps
// one after another.
#pragma once

#include "cuda/device/shared_arrays.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kMostWarps = 32;

// Combines one value a warp (its lane 0's); every thread gets the result. `combine` is
// called in the order of the warps.
template <typename Value, typename Combine>
__device__ __forceinline__ Value combine_warps(Value value, const Combine& combine) {
  __shared__ SharedElement<Value> of_warp[kMostWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  if (lane_of_thread() == 0) of_warp[warp] = value;
  __syncthreads();
  Value result = of_warp[0];
  for (int other = 1; other < warps; ++other) result = combine(result, of_warp[other]);
  __syncthreads();  // the next call writes over what others may be reading
  return result;
}

template <typename Value>
__device__ __forceinline__ Value sum_over_warps(Value value) {
  return combine_warps(value, [](Value a, Value b) { return a + b; });
}

template <typename Value>
__device__ __forceinline__ Value sum_over_block(Value value) {
  return sum_over_warps(sum_over_lanes(value));
}

}  // namespace cuda
}  // namespace negative_cosine
