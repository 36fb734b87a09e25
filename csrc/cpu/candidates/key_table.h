// The round keys of `shuffle`'s permutations, one column a permutation.
#pragma once

#include <cstdint>

#include "core/sampler.h"

namespace negative_cosine::cpu {

// The keys of permutations 1..K: keys[round * stride + k - 1].
struct KeyTable {
  FeistelShape shape{};
  const uint32_t* keys = nullptr;
  int64_t count = 0;   // K
  int64_t stride = 0;  // K rounded up to a multiple of 16
};

// values[i] = one permutation at start + i, for i below `count`.
using PermuteRange = void(const FeistelShape& shape, const PermutationKeys& keys,
                          int64_t start, int64_t count, int32_t* values);

}  // namespace negative_cosine::cpu
