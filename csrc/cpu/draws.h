// How a call draws its candidates, and what is computed of the draws before the rows
// meet them.
#pragma once

#include <cstdint>

#include "core/parallel_for.h"
#include "core/params.h"
#include "cpu/candidates/key_table.h"
#include "cpu/candidates/place_order.h"

namespace negative_cosine::cpu {

// Not from the caller's table.
bool draws_by_seed(const LossParams& params);

// By permutations of the documents, each row's candidates anywhere among them.
bool draws_by_shuffle(const LossParams& params);

// Candidates lie side by side: on the ring, or as all documents in their own order.
bool draws_by_place(const LossParams& params);

// Whether the gradient pass sorts the pairs by document, and inverts no permutation.
bool needs_inverted_table(const LossParams& params);

// Zeros for a call without a seed.
SeedState seed_of(const LossParams& params);

// The memory that the two functions below fill; 0 where the draws need none.
int64_t key_table_bytes(const LossParams& params);
int64_t ring_bytes(const LossParams& params);

// Empty where no permutations are drawn.
KeyTable fill_key_table(const LossParams& params, uint32_t* keys);

PlaceOrder fill_place_order(const LossParams& params, int32_t* ring,
                            const ParallelFor& parallel_for);

}  // namespace negative_cosine::cpu
