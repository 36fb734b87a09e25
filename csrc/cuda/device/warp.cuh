// A warp: 32 threads that run together and exchange values without shared memory.
#pragma once

namespace negative_cosine {
namespace cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}

// A number that all lanes know to be the same: so does the compiler then.
__device__ __forceinline__ int same_in_warp(int number) {
  return __shfl_sync(kWholeWarp, number, 0);
}

// The sum over lanes that differ in the bits kNearest..kFarthest of their number, in a
// fixed order; every one of them gets the same bits.
template <int kFarthest = kWarpSize / 2, int kNearest = 1, typename Value>
__device__ __forceinline__ Value sum_over_lanes(Value value) {
#pragma unroll
  for (int distance = kFarthest; distance >= kNearest; distance /= 2) {
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  }
  return value;
}

// NaN counts as smaller than everything, as in fmax.
template <typename Real>
__device__ __forceinline__ Real largest_over_lanes(Real value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance >= 1; distance /= 2) {
    const Real other = __shfl_xor_sync(kWholeWarp, value, distance);
    value = other > value || value != value ? other : value;
  }
  return value;
}

template <typename Value>
__device__ __forceinline__ Value smallest_over_lanes(Value value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance >= 1; distance /= 2) {
    const Value other = __shfl_xor_sync(kWholeWarp, value, distance);
    value = other < value ? other : value;
  }
  return value;
}

// Sums kValues values over groups of kLanes lanes at the price of little more than one:
// in each step half of the lanes hand over one half of the values and keep the other.
// Lane l of a group gets the sum of value number l / (kLanes / kValues), added in the
// order of sum_over_lanes.
template <int kValues, int kLanes, typename Real>
__device__ __forceinline__ Real transposed_sums(Real (&values)[kValues]) {
  int distance = kLanes / 2;
#pragma unroll
  for (int count = kValues; count > 1; count /= 2, distance /= 2) {
    const bool keeps_upper = (lane_of_thread() & distance) != 0;
#pragma unroll
    for (int i = 0; i < count / 2; ++i) {
      const Real kept = keeps_upper ? values[i + count / 2] : values[i];
      const Real given = keeps_upper ? values[i] : values[i + count / 2];
      values[i] = kept + __shfl_xor_sync(kWholeWarp, given, distance);
    }
  }
  return sum_over_lanes<kLanes / kValues / 2, 1>(values[0]);
}

}  // namespace cuda
}  // namespace negative_cosine
