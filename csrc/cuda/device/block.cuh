// Sums over a block of threads in a fixed order: a tree in each warp, then the warps
// one after another.
#pragma once

#include <cstdint>

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

// How many threads in front of the running one have set a flag, and how many of the
// block.
struct BlockRank {
  uint32_t before;
  uint32_t total;
};

// All threads of the block call it.
__device__ __forceinline__ BlockRank rank_in_block(bool flag) {
  __shared__ SharedElement<uint32_t> of_warp[kMostWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const unsigned flags = __ballot_sync(kWholeWarp, flag);
  const unsigned in_front = (1u << lane_of_thread()) - 1;
  if (lane_of_thread() == 0) of_warp[warp] = static_cast<uint32_t>(__popc(flags));
  __syncthreads();
  BlockRank rank{static_cast<uint32_t>(__popc(flags & in_front)), 0};
#pragma unroll 1
  for (int other = 0; other < warps; ++other) {
    const uint32_t count = of_warp[other];
    if (other < warp) rank.before += count;
    rank.total += count;
  }
  __syncthreads();  // the next call writes over what others may be reading
  return rank;
}

}  // namespace cuda
}  // namespace negative_cosine
