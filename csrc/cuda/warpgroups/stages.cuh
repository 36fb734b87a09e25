// The panels in shared memory: warps that copy fill them, warpgroups that multiply
// empty them, and each waits for the other. Both count turns, one for each panel.
#pragma once

#include "cuda/device/warpgroup.cuh"
#include "cuda/warpgroups/shape.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
class Stages {
 public:
  static constexpr int kBytes = 2 * shared_bytes(Shape::kStages, sizeof(uint64_t));

  __device__ __forceinline__ explicit Stages(SharedArrays* arrays)
      : filled_(arrays->template take<uint64_t>(Shape::kStages)),
        emptied_(arrays->template take<uint64_t>(Shape::kStages)) {}

  // With a barrier of the block behind it.
  __device__ __forceinline__ void set_up() const {
    if (threadIdx.x != 0) return;
    for (int stage = 0; stage < Shape::kStages; ++stage) {
      cuda::set_up(filled_ + stage, Shape::kWarpsThatCopy);
      // Groups take panels in turn.
      cuda::set_up(emptied_ + stage, Shape::kWarps / Shape::kGroups);
    }
  }

  __device__ __forceinline__ static int stage_of(int turn) {
    return turn % Shape::kStages;
  }

  // Of a turn's panel: its first row among those of all stages, that of a part, and
  // where the elements of the first one are.
  __device__ __forceinline__ static int first_row(int turn) {
    return stage_of(turn) * Shape::kColumns;
  }
  __device__ __forceinline__ static int first_row_of_part(int turn, int part) {
    return first_row(turn) + part * Shape::kColumnsOfWarp;
  }
  template <typename Element>
  __device__ __forceinline__ static const Element* panel_in(const Element* elements,
                                                            int turn) {
    return elements + first_row(turn) * Shape::kDim;
  }

  // A warp that copies waits before it fills a turn's stage, and tells afterwards.
  __device__ __forceinline__ void wait_until_emptied(int turn) const {
    wait_for_phase(emptied_ + stage_of(turn), 1 - round_of(turn) % 2);
  }
  __device__ __forceinline__ void tell_filled(int turn) const {
    show_writes_to_products();
    arrive_as_warp(filled_ + stage_of(turn));
  }

  // And a warp that multiplies before it reads it.
  __device__ __forceinline__ void wait_until_filled(int turn) const {
    wait_for_phase(filled_ + stage_of(turn), round_of(turn) % 2);
  }
  __device__ __forceinline__ void tell_emptied(int turn) const {
    arrive_as_warp(emptied_ + stage_of(turn));
  }

 private:
  __device__ __forceinline__ static uint32_t round_of(int turn) {
    return static_cast<uint32_t>(turn / Shape::kStages);
  }
  __device__ __forceinline__ static void arrive_as_warp(ArrivalBarrier* barrier) {
    __syncwarp();
    if (lane_of_thread() == 0) arrive(barrier);
  }

  ArrivalBarrier* const filled_;
  ArrivalBarrier* const emptied_;
};

// The memory of a tile's rows, and of its stages.
template <typename Shape, typename TileMemory>
constexpr int kWarpgroupBytes =
    TileMemory::kBytes + Stages<Shape>::kBytes + kSwizzledSlack;

}  // namespace cuda
}  // namespace negative_cosine
