// The queries of a band some of whose places have none: in the order of their places,
// found as far as they are needed.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/tiles/places.cuh"

namespace negative_cosine {
namespace cuda {

// They are kept in the place of the windows, each with its column of the band.
template <int kThreads>
class BandQueries : public TilePlaces<kThreads> {
  enum Number { kFound, kLookedAt, kNumbers };

 public:
  using Places = TilePlaces<kThreads>;
  static constexpr int kBytes = Places::kBytes +
                                shared_bytes(Places::kEntries, sizeof(uint32_t)) +
                                shared_bytes(kNumbers, sizeof(uint32_t));

  __device__ __forceinline__ explicit BandQueries(SharedArrays* arrays)
      : Places(arrays),
        columns_(arrays->template take<uint32_t>(Places::kEntries)),
        numbers_(arrays->template take<uint32_t>(kNumbers)) {}

  // Comes before all else. All threads of the block call it, with a barrier behind it.
  __device__ __forceinline__ void begin(const LossParams& params) const {
    this->save_order(params);
    if (threadIdx.x != 0) return;
    numbers_[kFound] = 0;
    numbers_[kLookedAt] = 0;
  }

  // Finds the queries in front of number `end`, or all that are left of the band, whose
  // column 0 is at place `origin`, and returns how many there are then. The last
  // kThreads in front of `end` are kept. All threads of the block call it, with a
  // barrier before they ask for the new ones.
  __device__ __forceinline__ uint32_t find(const LossParams& params, uint64_t origin,
                                           uint32_t band, uint32_t end) const {
    uint32_t found = numbers_[kFound];
    uint32_t looked_at = numbers_[kLookedAt];
    if (found >= end || looked_at >= band) return found;
#pragma unroll 1
    while (found < end && looked_at < band) {
      found += look(params, origin, band, looked_at + threadIdx.x, found);
      looked_at += kThreads;
    }
    if (threadIdx.x == 0) {
      numbers_[kFound] = found;
      numbers_[kLookedAt] = looked_at;
    }
    return found;
  }

  // Whether there is a query of that number, as far as they have been looked for.
  __device__ __forceinline__ bool has(uint32_t number) const {
    return number < numbers_[kFound];
  }
  __device__ __forceinline__ int32_t query_of(uint32_t number) const {
    return this->entry(number);
  }
  // Of the band.
  __device__ __forceinline__ uint32_t column_of(uint32_t number) const {
    return columns_[number % Places::kEntries];
  }

 private:
  // At one place for each thread. Returns how many there are.
  __device__ __forceinline__ uint32_t look(const LossParams& params, uint64_t origin,
                                           uint32_t band, uint32_t column,
                                           uint32_t found) const {
    uint32_t query = 0;
    bool is_query = false;
    if (column < band) {
      query = this->saved_order(params).index_at(origin + column);
      is_query = query < params.batch_size;
    }
    const BlockRank rank = rank_in_block(is_query);
    if (is_query) {
      const uint32_t number = found + rank.before;
      this->entry(number) = static_cast<int32_t>(query);
      columns_[number % Places::kEntries] = column;
    }
    return rank.total;
  }

  SharedElement<uint32_t>* const columns_;
  SharedElement<uint32_t>* const numbers_;
};

}  // namespace cuda
}  // namespace negative_cosine
