// Which rows a row is paired with: one of them a lane, 32 at a time.
//
// The forward pass asks for a query's candidates, the gradient pass for the queries
// that drew a document. An index is hashed once, by one lane, and goes to the others by
// shuffles. What the hash takes from the seed and the number of a draw alone is the
// same for all rows: a block finds it once.
#pragma once

#include "core/rules.h"
#include "core/sampler.h"
#include "cuda/device/shared_arrays.cuh"

namespace negative_cosine {
namespace cuda {

// The index in place of a row that is dropped or does not exist.
constexpr int32_t kNotKept = -1;

// A keyed bijection of 0..C-1, at single points.
class Permutation {
 public:
  __device__ __forceinline__ Permutation(const FeistelShape& shape, SeedState state,
                                         uint32_t number)
      : shape_(shape), keys_(state, number) {}

  __device__ __forceinline__ uint32_t forward(uint32_t x) const {
    return permute(shape_, keys_, x);
  }

 private:
  const FeistelShape& shape_;
  PermutationKeys keys_;
};

// The permutations of a seed, which is read only where something is drawn.
class Permutations {
 public:
  __device__ __forceinline__ explicit Permutations(const LossParams& params)
      : num_candidates_(static_cast<uint32_t>(params.num_candidates)),
        shape_(feistel_shape(params.num_candidates)),
        state_{} {
    if (params.seed == nullptr) return;
    state_ = seed_state(load_index(params.seed, params.seed_type, 0),
                        load_index(params.seed, params.seed_type, 1));
  }

  // Copied to shared memory, and back, by code that has few registers.
  static constexpr int kNumbers = 8;
  __device__ __forceinline__ void save(SharedElement<uint32_t>* numbers) const {
    numbers[0] = num_candidates_;
    numbers[1] = shape_.low_bits;
    numbers[2] = shape_.high_bits;
    numbers[3] = shape_.full_lines;
    numbers[4] = shape_.rest;
    numbers[5] = static_cast<uint32_t>(shape_.rounds);
    numbers[6] = state_.first;
    numbers[7] = state_.second;
  }
  __device__ __forceinline__ explicit Permutations(
      const SharedElement<uint32_t>* numbers)
      : num_candidates_(numbers[0]),
        shape_{numbers[1], numbers[2], numbers[3], numbers[4],
               static_cast<int>(numbers[5])},
        state_{numbers[6], numbers[7]} {}

  __device__ __forceinline__ Permutation operator[](int64_t number) const {
    return Permutation(shape_, state_, static_cast<uint32_t>(number));
  }
  __device__ __forceinline__ uint32_t num_candidates() const { return num_candidates_; }

 private:
  uint32_t num_candidates_;
  FeistelShape shape_;
  SeedState state_;
};

// The order of the documents by place, for samplers where a document's candidates are
// at the places behind its own: the ring's, or for `all` the documents' own order.
class PlaceOrder {
 public:
  __device__ __forceinline__ explicit PlaceOrder(const LossParams& params)
      : PlaceOrder(params, Permutations(params)) {}
  __device__ __forceinline__ PlaceOrder(const LossParams& params,
                                        const Permutations& permutations)
      : permutations_(permutations), is_ring_(params.sampler == Sampler::kRing) {}

  // Behind the last place comes the first.
  __device__ __forceinline__ static uint32_t wrapped(uint64_t place, uint64_t count) {
    while (place >= count) place -= count;  // rarely more than two steps
    return static_cast<uint32_t>(place);
  }

  // The document at a place.
  __device__ __forceinline__ uint32_t index_at(uint64_t place) const {
    const uint32_t inside = wrapped(place, permutations_.num_candidates());
    return is_ring_ ? permutations_[0].forward(inside) : inside;
  }

 private:
  Permutations permutations_;
  bool is_ring_;
};

// The permutations that the rows of a block draw by, numbers `first_number` and on. The
// keys of the first ones, half of what a draw costs, are kept in shared memory.
class BlockPermutations {
 public:
  // All threads of the block call it, with a barrier before any of them draws. It keeps
  // the keys of up to `count` permutations.
  __device__ __forceinline__ BlockPermutations(const LossParams& params,
                                               const FeistelShape& shape,
                                               uint32_t first_number, int64_t count)
      : shape_(shape), first_number_(first_number) {
    __shared__ SharedElement<uint32_t> keys[kMostRounds * kDraws];
    __shared__ SharedElement<uint32_t> state[2];
    keys_ = keys;
    state_ = state;
    const uint32_t kept = !keeps_keys()     ? 0
                          : count >= kDraws ? kDraws
                                            : static_cast<uint32_t>(count);
    if (params.seed == nullptr || (threadIdx.x != 0 && threadIdx.x >= kept)) return;
    const SeedState found = seed_state(load_index(params.seed, params.seed_type, 0),
                                       load_index(params.seed, params.seed_type, 1));
    if (threadIdx.x == 0) {
      state[0] = found.first;
      state[1] = found.second;
    }
#pragma unroll 1
    for (uint32_t draw = threadIdx.x; draw < kept; draw += blockDim.x) {
      const PermutationKeys keys_of_draw(found, first_number + draw);
#pragma unroll 2
      for (int round = 0; round < shape.rounds; ++round) {
        keys[round * kDraws + draw] = keys_of_draw(round);
      }
    }
  }

  // Calls `draw` with the keys of a permutation.
  template <typename Draw>
  __device__ __forceinline__ uint32_t with_keys(uint32_t number,
                                                const Draw& draw) const {
    const uint32_t place = number - first_number_;
    if (keeps_keys() && place < kDraws) {
      const SharedElement<uint32_t>* keys = keys_ + place;
      return draw([keys](int round) -> uint32_t { return keys[round * kDraws]; });
    }
    return draw(found_keys(number));
  }

  // The same keys, not from shared memory: for what is drawn once.
  __device__ __forceinline__ PermutationKeys found_keys(uint32_t number) const {
    return PermutationKeys(SeedState{state_[0], state_[1]}, number);
  }

  __device__ __forceinline__ const FeistelShape& shape() const { return shape_; }

 private:
  // 4 KiB. Smaller domains, of 512 numbers or less, have more rounds.
  static constexpr int kDraws = 128;
  static constexpr int kMostRounds = 8;

  __device__ __forceinline__ bool keeps_keys() const {
    return shape_.rounds <= kMostRounds;
  }

  const FeistelShape& shape_;
  const uint32_t first_number_;
  const SharedElement<uint32_t>* keys_;
  const SharedElement<uint32_t>* state_;
};

class CandidateSource {
 public:
  // What is looked up once for a row or a document.
  struct Start {
    uint32_t place;
  };

  // All threads of the block call it, with a barrier before they ask for rows.
  __device__ __forceinline__ CandidateSource(const LossParams& params,
                                             const FeistelShape& shape)
      : is_ring_(params.sampler == Sampler::kRing),
        draws_by_place_(params.negative_indices == nullptr &&
                        params.sampler != Sampler::kShuffle),
        permutations_(params, shape, draws_by_place_ ? 0 : 1,
                      draws_by_place_ ? 1 : params.num_negatives) {}

  __device__ __forceinline__ Start start(int64_t row) const {
    const auto index = static_cast<uint32_t>(row);
    if (!draws_by_place_ || !is_ring_) return {index};
    return {permute_back(permutations_.shape(), permutations_.found_keys(0), index)};
  }

  // Candidate number k of a query row. An index that is no row of doc is dropped: it is
  // never read (docs/semantics.md, "Errors").
  __device__ __forceinline__ int32_t candidate(const LossParams& params, Start start,
                                               int64_t row, int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const int64_t candidate =
        params.negative_indices != nullptr
            ? load_index(params.negative_indices, params.negative_indices_type,
                         row * params.num_negatives + k)
            : drawn_candidate(params, start, row, static_cast<uint32_t>(k));
    const bool exists = candidate >= 0 && candidate < params.num_candidates;
    if (!exists || is_dropped(params, row, candidate)) return kNotKept;
    return static_cast<int32_t>(candidate);
  }

  // The row that drew document `doc` as its candidate number k.
  __device__ __forceinline__ int32_t row_that_drew(const LossParams& params,
                                                   Start start, int64_t doc,
                                                   int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const uint32_t row = drawing_row(params, start, static_cast<uint32_t>(doc),
                                     static_cast<uint32_t>(k));
    if (row >= params.batch_size || is_dropped(params, row, doc)) return kNotKept;
    return static_cast<int32_t>(row);
  }

 private:
  __device__ __forceinline__ uint32_t drawn_candidate(const LossParams& params,
                                                      Start start, int64_t row,
                                                      uint32_t k) const {
    uint32_t number = k + 1;
    uint32_t x = static_cast<uint32_t>(row);
    if (draws_by_place_) {
      number = 0;
      x = wrapped(params, uint64_t{start.place} + k + 1);
      if (!is_ring_) return x;
    }
    return permutations_.with_keys(number, [&](const auto& keys) {
      return permute(permutations_.shape(), keys, x);
    });
  }

  __device__ __forceinline__ uint32_t drawing_row(const LossParams& params, Start start,
                                                  uint32_t doc, uint32_t k) const {
    if (draws_by_place_) {
      const auto count = static_cast<uint64_t>(params.num_candidates);
      const uint32_t place = wrapped(params, start.place + count - k - 1);
      return is_ring_
                 ? permute(permutations_.shape(), permutations_.found_keys(0), place)
                 : place;
    }
    return permutations_.with_keys(k + 1, [&](const auto& keys) {
      return permute_back(permutations_.shape(), keys, doc);
    });
  }

  __device__ __forceinline__ static uint32_t wrapped(const LossParams& params,
                                                     uint64_t place) {
    return PlaceOrder::wrapped(place, static_cast<uint64_t>(params.num_candidates));
  }

  const bool is_ring_;
  const bool draws_by_place_;
  const BlockPermutations permutations_;
};

}  // namespace cuda
}  // namespace negative_cosine
