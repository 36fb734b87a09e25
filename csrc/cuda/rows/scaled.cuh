// Rows that a kernel does not hold, with the members that query_gradient_row needs.
#pragma once

#include "core/formulas.h"
#include "cuda/device/packets.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

// Writes a multiple of a query row's saved direction: 16 bytes of it a lane, so that
// both rows are moved by whole sectors.
template <typename StorageType>
struct ScaledRows {
  using Storage = StorageType;
  using Real = ComputeType<Storage>;
  static constexpr int kElements = 16 / static_cast<int>(sizeof(Real));

  __device__ __forceinline__ static bool is_first_lane() {
    return lane_of_thread() == 0;
  }

  __device__ __forceinline__ void store_multiple(const Real* from, Real factor,
                                                 Storage* to) const {
    if (whole_packets) {
      store_by<kElements>(from, factor, to);
    } else {
      store_by<1>(from, factor, to);
    }
  }

  template <int kCount>
  __device__ __forceinline__ void store_by(const Real* from, Real factor,
                                           Storage* to) const {
#pragma unroll 1
    for (int64_t column = lane_of_thread() * kCount; column < dim;
         column += kWarpSize * kCount) {
      Real values[kCount];
      load_packet_from_l2(from + column, values);
#pragma unroll
      for (Real& value : values) value = zero_safe_product(factor, value);
      store_packet(values, to + column);
    }
  }

  const int64_t dim;
  const bool whole_packets;
};

}  // namespace cuda
}  // namespace negative_cosine
