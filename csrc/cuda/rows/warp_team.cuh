// The warps that hold a row together, where it is too long for one: sums over all of
// them.
#pragma once

#include "cuda/device/shared_memory.cuh"
#include "cuda/device/warp.cuh"
#include "cuda/rows/rows.cuh"

namespace negative_cosine {
namespace cuda {

// Adds up what the warps of a block have of a row, in the order of the warps; one warp
// alone has nothing to add.
template <typename Real, int kWarps>
class WarpTeam {
  static_assert(kWarps == 1 || kWarps == kMostWarpsPerBlock,
                "a team is a warp or the whole block: it waits at the block's barrier");

 public:
  template <int kValues>
  __device__ __forceinline__ void sum(Real (&values)[kValues]) const {
    if constexpr (kWarps > 1) {
      // Two buffers, used in turn: so a barrier lies between every read and the next
      // write of the same element.
      __shared__ SharedElement<Real> of_thread[2][kValues][kWarps * kWarpSize];
      buffer_ = 1 - buffer_;
#pragma unroll
      for (int i = 0; i < kValues; ++i) of_thread[buffer_][i][threadIdx.x] = values[i];
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kValues; ++i) {
        values[i] = of_thread[buffer_][i][lane_of_thread()];
#pragma unroll
        for (int warp = 1; warp < kWarps; ++warp) {
          values[i] += of_thread[buffer_][i][warp * kWarpSize + lane_of_thread()];
        }
      }
    }
  }

 private:
  mutable int buffer_ = 0;
};

}  // namespace cuda
}  // namespace negative_cosine
