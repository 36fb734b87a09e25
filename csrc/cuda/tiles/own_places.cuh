// The places that a tile of the forward pass takes its rows from: neighbours, a row for
// each, or those places of a longer span where a query is. That is for a ring with many
// more documents than queries, where most rows would be empty.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/tiles/band.cuh"
#include "cuda/tiles/places.cuh"

namespace negative_cosine {
namespace cuda {

// The places from blockIdx * kRows on.
template <typename Shape>
class NeighbouringPlaces {
 public:
  static constexpr bool kAreOfQueries = false;
  using Places = TilePlaces<Shape::kWindow>;

  __device__ __forceinline__ NeighbouringPlaces(SharedArrays*, const LossParams& params)
      : first_place_(blockIdx.x * Shape::kRows),
        rows_(rows_of_tile<Shape>(params.num_candidates, first_place_)) {}
  static constexpr int kBytes = 0;

  // Finds the first window of rows behind them. All threads of the block call it, with
  // a barrier before they ask for rows.
  __device__ __forceinline__ void find_first_window(const LossParams& params,
                                                    Places* places) const {
    static_assert(Shape::kRows <= Shape::kThreads, "own rows are in the first window");
    places->find_first_window(params, first_place_, 0);
  }

  __device__ __forceinline__ uint32_t first_place() const { return first_place_; }
  __device__ __forceinline__ int rows() const { return rows_; }
  // The document at a row's place.
  __device__ __forceinline__ int32_t doc_of(const Places& places, int row) const {
    return places.index_at(static_cast<uint32_t>(row));
  }
  // The places of rows, from the first one on. Rows that do not exist have one too: a
  // warp takes them with others.
  __device__ __forceinline__ PlacesSideBySide place_of() const { return {}; }
  __device__ __forceinline__ uint32_t last_place() const { return Shape::kRows - 1; }

 private:
  const uint32_t first_place_;
  const int rows_;
};

// They are kept in shared memory: the pass has no registers for them.
template <typename Shape>
class PlacesOfQueries {
  enum Number { kFirst, kRowsTaken, kNext, kNumbers };

 public:
  static constexpr bool kAreOfQueries = true;
  using Places = TilePlaces<Shape::kWindow>;

  __device__ __forceinline__ PlacesOfQueries(SharedArrays* arrays, const LossParams&)
      : places_(arrays->template take<uint32_t>(Shape::kRows)),
        queries_(arrays->template take<int32_t>(Shape::kRows)),
        numbers_(arrays->template take<uint32_t>(kNumbers)) {}

  static constexpr int kBytes = 2 * shared_bytes(Shape::kRows, sizeof(int32_t)) +
                                shared_bytes(kNumbers, sizeof(uint32_t));

  // Takes the first kRows queries at places from `first` on and in front of `end`, and
  // finds the first window of rows behind them. All threads of the block call it, with
  // a barrier before they ask for anything.
  __device__ __forceinline__ void take(const LossParams& params, uint32_t first,
                                       uint32_t end, Places* places) const {
    constexpr uint32_t kRows = Shape::kRows;
    places->save_order(params);
    if (threadIdx.x == 0) set_numbers(first, 0, end);
    __syncthreads();
    uint32_t found = 0;
#pragma unroll 1
    for (uint32_t window = first; window < end && found <= kRows;
         window += Shape::kThreads) {
      found += keep_queries(params, *places, window, end, found);
    }
    __syncthreads();
    if (found == 0) return;
    make_relative(min(found, kRows));
    __syncthreads();
    places->find_by_saved_order(params, first_place(), 0);
  }

  __device__ __forceinline__ uint32_t first_place() const { return numbers_[kFirst]; }
  __device__ __forceinline__ int rows() const {
    return static_cast<int>(numbers_[kRowsTaken]);
  }
  // Where to go on: the first query that has not been taken, or `end`.
  __device__ __forceinline__ uint32_t next_place() const { return numbers_[kNext]; }

  __device__ __forceinline__ int32_t doc_of(const Places&, int row) const {
    return queries_[row];
  }

  // Rows that do not exist are behind all others.
  struct PlaceOf {
    const SharedElement<uint32_t>* places;
    __device__ __forceinline__ uint32_t operator()(int row) const {
      return places[row];
    }
  };
  __device__ __forceinline__ PlaceOf place_of() const { return {places_}; }
  __device__ __forceinline__ uint32_t last_place() const { return places_[rows() - 1]; }

 private:
  __device__ __forceinline__ void set_numbers(uint32_t first, uint32_t rows,
                                              uint32_t next) const {
    numbers_[kFirst] = first;
    numbers_[kRowsTaken] = rows;
    numbers_[kNext] = next;
  }

  // Each thread looks at one place. Returns how many queries they have found.
  __device__ __forceinline__ uint32_t keep_queries(const LossParams& params,
                                                   const Places& places,
                                                   uint32_t window, uint32_t end,
                                                   uint32_t found) const {
    const uint32_t place = window + threadIdx.x;
    uint32_t query = 0;
    bool is_query = false;
    if (place < end) {
      query = places.saved_order(params).index_at(place);
      is_query = query < params.batch_size;
    }
    const BlockRank rank = rank_in_block(is_query);
    const uint32_t row = found + rank.before;
    if (is_query && row < Shape::kRows) {
      places_[row] = place;
      queries_[row] = static_cast<int32_t>(query);
    }
    if (is_query && row == Shape::kRows) numbers_[kNext] = place;
    return rank.total;
  }

  __device__ __forceinline__ void make_relative(uint32_t rows) const {
    const uint32_t row = threadIdx.x;
    const uint32_t first = places_[0];
    const bool exists = row < rows;
    const uint32_t place = exists ? places_[row] - first : kBehindAll;
    __syncthreads();
    if (row < Shape::kRows) {
      places_[row] = place;
      if (!exists) queries_[row] = kNotKept;
    }
    if (row != 0) return;
    numbers_[kFirst] = first;
    numbers_[kRowsTaken] = rows;
  }

  static constexpr uint32_t kBehindAll = 1u << 31;

  SharedElement<uint32_t>* const places_;
  SharedElement<int32_t>* const queries_;
  SharedElement<uint32_t>* const numbers_;
};

}  // namespace cuda
}  // namespace negative_cosine
