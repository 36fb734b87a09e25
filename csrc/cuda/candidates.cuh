// Which rows a row meets: one of them a lane, 32 at a time.
//
// The forward pass asks for a query's candidates, the gradient pass for the queries
// that drew a document. An index is hashed once, by one lane, and goes to the others by
// shuffles.
#pragma once

#include "core/candidate_rules.h"
#include "core/sampler.h"
#include "cuda/device.cuh"

namespace negative_cosine {
namespace cuda {

// In place of the index of a row that is dropped, or that there is not.
constexpr int32_t kNotKept = -1;

// The caller's table turned around (see inverted_table.h); null for a sampler.
struct RowsOfDocs {
  const int64_t* starts = nullptr;  // [C + 1]
  const int32_t* rows = nullptr;
};

// A keyed bijection of 0..C-1, at single points.
class Permutation {
 public:
  __device__ __forceinline__ Permutation(const FeistelShape& shape, SeedState state,
                                         uint32_t number)
      : shape_(shape), keys_(state, number) {}

  __device__ __forceinline__ uint32_t forward(uint32_t x) const {
    do {
      x = feistel_forward(shape_, keys_, x);
    } while (x >= shape_.num_candidates);
    return x;
  }

  __device__ __forceinline__ uint32_t inverse(uint32_t x) const {
    do {
      x = feistel_inverse(shape_, keys_, x);
    } while (x >= shape_.num_candidates);
    return x;
  }

 private:
  const FeistelShape& shape_;
  PermutationKeys keys_;
};

// The seed's words; none are read where nothing is drawn.
__device__ __forceinline__ SeedState state_of_seed(const LossParams& params) {
  if (params.seed == nullptr) return SeedState{};
  return seed_state(load_index(params.seed, params.seed_type, 0),
                    load_index(params.seed, params.seed_type, 1));
}

// The places of the documents whose candidates follow their own place: on the ring, or
// in their own order for `all`, where every other document follows.
class PlaceOrder {
 public:
  __device__ __forceinline__ explicit PlaceOrder(const LossParams& params)
      : shape_(feistel_shape(params.num_candidates)),
        state_(state_of_seed(params)),
        is_ring_(params.sampler == Sampler::kRing) {}

  // The document at a place; places beyond the last go around.
  __device__ __forceinline__ uint32_t index_at(uint64_t place) const {
    const uint64_t count = shape_.num_candidates;
    while (place >= count)
      place -= count;  // a step or two, where C is larger than a tile
    const auto wrapped = static_cast<uint32_t>(place);
    return is_ring_ ? ring().forward(wrapped) : wrapped;
  }

  __device__ __forceinline__ uint32_t place_of(uint32_t index) const {
    return is_ring_ ? ring().inverse(index) : index;
  }

 private:
  __device__ __forceinline__ Permutation ring() const {
    return Permutation(shape_, state_, 0);
  }

  FeistelShape shape_;
  SeedState state_;
  bool is_ring_;
};

class CandidateSource {
 public:
  // What is looked up once for a row or a document.
  struct Start {
    uint32_t place;
  };

  __device__ __forceinline__ explicit CandidateSource(const LossParams& params)
      : shape_(feistel_shape(params.num_candidates)),
        state_(state_of_seed(params)),
        order_(params),
        draws_by_place_(params.negative_indices == nullptr &&
                        params.sampler != Sampler::kShuffle) {}

  __device__ __forceinline__ Start start(int64_t row) const {
    return {draws_by_place_ ? order_.place_of(static_cast<uint32_t>(row)) : 0};
  }

  // Candidate number k of a query row. An index that is no row of doc is dropped: it is
  // never read (SPEC section 8).
  __device__ __forceinline__ int32_t candidate(const LossParams& params, Start start,
                                               int64_t row, int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const int64_t candidate =
        params.negative_indices != nullptr
            ? load_index(params.negative_indices, params.negative_indices_type,
                         row * params.num_negatives + k)
        : draws_by_place_
            ? order_.index_at(uint64_t{start.place} + static_cast<uint64_t>(k) + 1)
            : permutation(k).forward(static_cast<uint32_t>(row));
    const bool exists = candidate >= 0 && candidate < params.num_candidates;
    if (!exists || is_dropped(params, row, candidate)) return kNotKept;
    return static_cast<int32_t>(candidate);
  }

  // The row that drew document `doc` as its candidate number k.
  __device__ __forceinline__ int32_t row_that_drew(const LossParams& params,
                                                   Start start, int64_t doc,
                                                   int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const uint32_t row =
        draws_by_place_
            ? order_.index_at(uint64_t{start.place} + shape_.num_candidates -
                              static_cast<uint64_t>(k) - 1)
            : permutation(k).inverse(static_cast<uint32_t>(doc));
    if (row >= params.batch_size || is_dropped(params, row, doc)) return kNotKept;
    return static_cast<int32_t>(row);
  }

 private:
  __device__ __forceinline__ Permutation permutation(int64_t k) const {
    return Permutation(shape_, state_, static_cast<uint32_t>(k + 1));
  }

  FeistelShape shape_;
  SeedState state_;
  PlaceOrder order_;
  bool draws_by_place_;
};

}  // namespace cuda
}  // namespace negative_cosine
