// The rows at the places of a tile's columns. For `ring` each costs a keyed bijection,
// so each thread of the block evaluates one place of a window, and all threads read
// them.
#pragma once

#include "cuda/candidates/candidates.cuh"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// Windows of kThreads columns in two buffers: threads may still read one while the next
// is written. Column 0 is the row at place `origin`.
template <int kThreads>
class TilePlaces {
 public:
  static constexpr int kBytes = shared_bytes(2 * kThreads, sizeof(int32_t)) +
                                shared_bytes(Permutations::kNumbers, sizeof(uint32_t));

  __device__ __forceinline__ explicit TilePlaces(SharedArrays* arrays)
      : indices_(arrays->template take<int32_t>(2 * kThreads)),
        numbers_(arrays->template take<uint32_t>(Permutations::kNumbers)) {}

  // Finds the rows of the window that holds a column. All threads of the block call it,
  // with a barrier before they ask for rows of that window, and before the next call.
  __device__ __forceinline__ void find_first_window(const LossParams& params,
                                                    uint64_t origin, uint32_t column) {
    const Permutations permutations(params);
    if (threadIdx.x == 0) permutations.save(numbers_);
    evaluate(PlaceOrder(params, permutations), origin, column);
  }
  __device__ __forceinline__ void find_window(const LossParams& params, uint64_t origin,
                                              uint32_t column) {
    if (window_of(column) != window_) find_by_saved_order(params, origin, column);
  }
  __device__ __forceinline__ void find_by_saved_order(const LossParams& params,
                                                      uint64_t origin,
                                                      uint32_t column) {
    evaluate(saved_order(params), origin, column);
  }

  __device__ __forceinline__ int32_t index_at(uint32_t column) const {
    return indices_[buffer_ * kThreads + static_cast<int>(column % kThreads)];
  }

  // The same without windows, for who looks for some of the rows: entries to keep them
  // in, and the order, which is to be saved first. All threads of the block save it,
  // with a barrier before they ask for it.
  static constexpr uint32_t kEntries = 2 * kThreads;
  __device__ __forceinline__ SharedElement<int32_t>& entry(uint32_t number) const {
    return indices_[number % kEntries];
  }
  __device__ __forceinline__ void save_order(const LossParams& params) const {
    if (threadIdx.x == 0) Permutations(params).save(numbers_);
  }
  __device__ __forceinline__ PlaceOrder saved_order(const LossParams& params) const {
    return PlaceOrder(params, Permutations(numbers_));
  }

 private:
  __device__ __forceinline__ static uint32_t window_of(uint32_t column) {
    return column / kThreads;
  }

  __device__ __forceinline__ void evaluate(const PlaceOrder& order, uint64_t origin,
                                           uint32_t column) {
    window_ = window_of(column);
    buffer_ ^= 1;
    indices_[buffer_ * kThreads + static_cast<int>(threadIdx.x)] = static_cast<int32_t>(
        order.index_at(origin + uint64_t{window_} * kThreads + threadIdx.x));
  }

  SharedElement<int32_t>* const indices_;
  SharedElement<uint32_t>* const numbers_;  // the sampler's
  uint32_t window_ = 0;
  int buffer_ = 0;
};

}  // namespace cuda
}  // namespace negative_cosine
