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

// The caller's table turned around (see inverted_table.h); null for `shuffle`.
struct RowsOfDocs {
  const int64_t* starts = nullptr;  // [C + 1]
  const int32_t* rows = nullptr;
};

class CandidateSource {
 public:
  __device__ __forceinline__ explicit CandidateSource(const LossParams& params)
      : shape_(feistel_shape(params.num_candidates)), state_{} {
    if (params.negative_indices != nullptr) return;
    state_ = seed_state(load_index(params.seed, params.seed_type, 0),
                        load_index(params.seed, params.seed_type, 1));
  }

  // Candidate number k of a query row. An index that is no row of doc is dropped: it is
  // never read (SPEC section 8).
  __device__ __forceinline__ int32_t candidate(const LossParams& params, int64_t row,
                                               int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const int64_t candidate =
        params.negative_indices != nullptr
            ? load_index(params.negative_indices, params.negative_indices_type,
                         row * params.num_negatives + k)
            : permuted(row, k);
    const bool exists = candidate >= 0 && candidate < params.num_candidates;
    if (!exists || is_dropped(params, row, candidate)) return kNotKept;
    return static_cast<int32_t>(candidate);
  }

  // The k-th row that drew document `doc`, by the inverse of permutation k + 1.
  __device__ __forceinline__ int32_t row_that_drew(const LossParams& params,
                                                   int64_t doc, int64_t k) const {
    if (k >= params.num_negatives) return kNotKept;
    const PermutationKeys keys(state_, static_cast<uint32_t>(k + 1));
    const uint32_t row = permute_back(shape_, keys, static_cast<uint32_t>(doc));
    if (row >= params.batch_size || is_dropped(params, row, doc)) return kNotKept;
    return static_cast<int32_t>(row);
  }

 private:
  __device__ __forceinline__ int64_t permuted(int64_t row, int64_t k) const {
    const PermutationKeys keys(state_, static_cast<uint32_t>(k + 1));
    return permute(shape_, keys, static_cast<uint32_t>(row));
  }

  FeistelShape shape_;
  SeedState state_;
};

}  // namespace cuda
}  // namespace negative_cosine
