// The rows behind the places that a tile meets: what costs `ring` a keyed bijection a
// place. Each thread of the block evaluates one place of a window, and all threads read
// them.
#pragma once

#include "cuda/candidates/candidates.cuh"
#include "cuda/device/shared_memory.cuh"

namespace negative_cosine {
namespace cuda {

// Two windows of kThreads columns of a tile: threads may still read the one while the
// next is written. Column 0 is the row at place `origin`.
template <int kThreads>
class TilePlaces {
 public:
  static constexpr int kBytes = shared_bytes(2 * kThreads, sizeof(int32_t)) +
                                shared_bytes(Permutations::kNumbers, sizeof(uint32_t));

  __device__ __forceinline__ explicit TilePlaces(SharedArrays* arrays)
      : indices_(arrays->template take<int32_t>(2 * kThreads)),
        numbers_(arrays->template take<uint32_t>(Permutations::kNumbers)) {}

  // Looks for the rows of the window that holds a column. The block calls it, and has a
  // barrier before it asks for rows of that window, and before the next call.
  __device__ __forceinline__ void look_first(const LossParams& params, uint64_t origin,
                                             uint32_t column) {
    const Permutations permutations(params);
    if (threadIdx.x == 0) permutations.keep(numbers_);
    look(PlaceOrder(params, permutations), origin, column);
  }
  __device__ __forceinline__ void look_on(const LossParams& params, uint64_t origin,
                                          uint32_t column) {
    if (window_of(column) == window_) return;
    look(PlaceOrder(params, Permutations(numbers_)), origin, column);
  }

  __device__ __forceinline__ int32_t index_at(uint32_t column) const {
    return indices_[turn_ * kThreads + static_cast<int>(column % kThreads)];
  }

 private:
  __device__ __forceinline__ static uint32_t window_of(uint32_t column) {
    return column / kThreads;
  }

  __device__ __forceinline__ void look(const PlaceOrder& order, uint64_t origin,
                                       uint32_t column) {
    window_ = window_of(column);
    turn_ ^= 1;
    indices_[turn_ * kThreads + static_cast<int>(threadIdx.x)] = static_cast<int32_t>(
        order.index_at(origin + uint64_t{window_} * kThreads + threadIdx.x));
  }

  SharedElement<int32_t>* const indices_;
  SharedElement<uint32_t>* const numbers_;  // the sampler's
  uint32_t window_ = 0;
  int turn_ = 0;
};

}  // namespace cuda
}  // namespace negative_cosine
