// Which rows a row is paired with: one of them a lane, 32 at a time.
//
// The forward pass asks for a query's candidates, the gradient pass for the queries
// that drew a document. An index is hashed once, by one lane, and goes to the others by
// shuffles.
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

  __device__ __forceinline__ uint32_t inverse(uint32_t x) const {
    return permute_back(shape_, keys_, x);
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

  __device__ __forceinline__ uint32_t place_of(uint32_t index) const {
    return is_ring_ ? permutations_[0].inverse(index) : index;
  }

  __device__ __forceinline__ const Permutations& permutations() const {
    return permutations_;
  }

 private:
  Permutations permutations_;
  bool is_ring_;
};

class CandidateSource {
 public:
  // What is looked up once for a row or a document.
  struct Start {
    uint32_t place;
  };

  __device__ __forceinline__ explicit CandidateSource(const LossParams& params)
      : order_(params),
        draws_by_place_(params.negative_indices == nullptr &&
                        params.sampler != Sampler::kShuffle) {}

  __device__ __forceinline__ Start start(int64_t row) const {
    return {draws_by_place_ ? order_.place_of(static_cast<uint32_t>(row)) : 0};
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
        : draws_by_place_
            ? order_.index_at(uint64_t{start.place} + static_cast<uint64_t>(k) + 1)
            : order_.permutations()[k + 1].forward(static_cast<uint32_t>(row));
    const bool exists = candidate >= 0 && candidate < params.num_candidates;
    if (!exists || is_dropped(params, row, candidate)) return kNotKept;
    return static_cast<int32_t>(candidate);
  }

  // The row that drew document `doc` as its candidate number k.
  __device__ __forceinline__ int32_t row_that_drew(const LossParams& params,
                                                   Start start, int64_t doc,
                                                   int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const auto candidates = static_cast<uint64_t>(params.num_candidates);
    const uint32_t row =
        draws_by_place_
            ? order_.index_at(start.place + candidates - static_cast<uint64_t>(k) - 1)
            : order_.permutations()[k + 1].inverse(static_cast<uint32_t>(doc));
    if (row >= params.batch_size || is_dropped(params, row, doc)) return kNotKept;
    return static_cast<int32_t>(row);
  }

 private:
  PlaceOrder order_;
  bool draws_by_place_;
};

}  // namespace cuda
}  // namespace negative_cosine
