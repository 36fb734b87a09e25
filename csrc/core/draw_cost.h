// What it costs to find the queries that drew each document, and the cheaper way.
//
// A sampler's permutations can be inverted at each document, K hashes for each of C
// documents; or all B·K draws can be sorted by document. Where C is near B the first is
// cheaper, where C is much larger than B (a queue of documents, other replicas'
// documents) the second is: its cost follows the draws.
#pragma once

#include <cstdint>

#include "core/params.h"

namespace negative_cosine {

// Of one device, in any unit.
struct DrawCost {
  double inverse;  // of one permutation at one document
  double sorted;   // to draw one pair and sort it
};

// Whether `shuffle`'s draws are sorted. Both ways give the same lists, in the same
// order, so the same bits.
inline bool sorts_draws(const LossParams& params, const DrawCost& cost) {
  return params.negative_indices == nullptr && params.sampler == Sampler::kShuffle &&
         params.normalize_over == NormalizeOver::kCandidates &&
         static_cast<double>(params.num_candidates) * cost.inverse >
             static_cast<double>(params.batch_size) * cost.sorted;
}

}  // namespace negative_cosine
