// The sampler: pseudo-random permutations of 0..C-1 that are never stored.
//
// A permutation is a keyed bijection: an alternating Feistel network on the n-bit
// numbers, 2^(n-1) < C <= 2^n, whose round function is murmur3's finaliser of
// (half ^ key), restricted to 0..C-1 by cycle walking (Black and Rogaway, "Ciphers with
// arbitrary finite domains", 2002): a value that lands outside is permuted again until
// it lands inside. It is evaluated and inverted at single points, in registers.
//
// `Word` is uint32_t, or a vector of them: the CPU kernels evaluate one permutation a
// lane. Everything here is plain 32-bit integer arithmetic, so that TensorFlow
// (python/negative_cosine/_sampler.py), C++ and CUDA agree bit for bit.
#pragma once

#include <cstdint>

#include "core/portability.h"

namespace negative_cosine {

constexpr int kMaxFeistelRounds = 32;
constexpr uint32_t kGoldenRatio = 0x9e3779b9u;

// The bits and rounds of a network on 0..C-1. Small domains need more rounds to look
// random: a half of one or two bits has few round functions to draw from. The counts
// are the smallest tried ones at which permutations (C <= 5) and pairs (up to 16 bits)
// pass chi-square tests over 10^6 seeds, with a margin.
struct FeistelShape {
  uint32_t num_candidates;
  uint32_t low_bits;
  uint32_t low_mask;
  uint32_t high_mask;
  int rounds;
};

NEGATIVE_COSINE_INLINE FeistelShape feistel_shape(int64_t num_candidates) {
  uint32_t bits = 2;
  while (bits < 31 && (int64_t{1} << bits) < num_candidates) ++bits;
  const int rounds = bits >= 12   ? 6
                     : bits >= 10 ? 8
                     : bits >= 8  ? 10
                     : bits == 7  ? 12
                     : bits == 6  ? 16
                     : bits == 5  ? 20
                     : bits == 4  ? 24
                                  : kMaxFeistelRounds;
  const uint32_t low_bits = bits / 2;
  return FeistelShape{static_cast<uint32_t>(num_candidates), low_bits,
                      (1u << low_bits) - 1u, (1u << (bits - low_bits)) - 1u, rounds};
}

// murmur3's 32-bit finaliser (Appleby): every input bit reaches every output bit.
template <typename Word>
NEGATIVE_COSINE_INLINE Word mix(Word x) {
  x = x ^ (x >> 16);
  x = x * 0x85ebca6bu;
  x = x ^ (x >> 13);
  x = x * 0xc2b2ae35u;
  return x ^ (x >> 16);
}

// Two words that all 128 bits of a seed have been mixed into.
struct SeedState {
  uint32_t first;
  uint32_t second;
};

NEGATIVE_COSINE_INLINE SeedState seed_state(int64_t seed_0, int64_t seed_1) {
  const uint32_t words[4] = {
      static_cast<uint32_t>(seed_0), static_cast<uint32_t>(seed_0 >> 32),
      static_cast<uint32_t>(seed_1), static_cast<uint32_t>(seed_1 >> 32)};
  SeedState state{0x243f6a88u, 0x85a308d3u};  // the digits of pi
  for (const uint32_t word : words) {
    state.first = mix(state.first ^ word) * kGoldenRatio;
    state.second = mix(mix(state.second ^ state.first) ^ (word * 0xc2b2ae3du));
  }
  return state;
}

// The round keys of permutation number `permutation`: 1..K for `shuffle`.
struct PermutationKeys {
  NEGATIVE_COSINE_INLINE_MEMBER PermutationKeys(SeedState state, uint32_t permutation)
      : first(mix(state.first ^ (permutation * kGoldenRatio))),
        second(mix(state.second ^ first)) {}

  NEGATIVE_COSINE_INLINE_MEMBER uint32_t operator()(int round) const {
    return mix(first ^ ((static_cast<uint32_t>(round) + 1u) * kGoldenRatio)) ^ second;
  }

  uint32_t first;
  uint32_t second;
};

// One pass of the network over n-bit numbers. `keys(round)` gives the round's key.
template <typename Word, typename Keys>
NEGATIVE_COSINE_INLINE Word feistel_forward(const FeistelShape& shape, const Keys& keys,
                                            Word x) {
  Word low = x & shape.low_mask;
  Word high = x >> shape.low_bits;
  for (int round = 0; round < shape.rounds; round += 2) {
    high = high ^ (mix<Word>(low ^ keys(round)) & shape.high_mask);
    low = low ^ (mix<Word>(high ^ keys(round + 1)) & shape.low_mask);
  }
  return (high << shape.low_bits) | low;
}

template <typename Word, typename Keys>
NEGATIVE_COSINE_INLINE Word feistel_inverse(const FeistelShape& shape, const Keys& keys,
                                            Word x) {
  Word low = x & shape.low_mask;
  Word high = x >> shape.low_bits;
  for (int round = shape.rounds - 2; round >= 0; round -= 2) {
    low = low ^ (mix<Word>(high ^ keys(round + 1)) & shape.low_mask);
    high = high ^ (mix<Word>(low ^ keys(round)) & shape.high_mask);
  }
  return (high << shape.low_bits) | low;
}

// The permutation and its inverse at one value below C, by cycle walking.
template <typename Keys>
NEGATIVE_COSINE_INLINE uint32_t permute(const FeistelShape& shape, const Keys& keys,
                                        uint32_t x) {
  do {
    x = feistel_forward(shape, keys, x);
  } while (x >= shape.num_candidates);
  return x;
}

template <typename Keys>
NEGATIVE_COSINE_INLINE uint32_t permute_back(const FeistelShape& shape,
                                             const Keys& keys, uint32_t x) {
  do {
    x = feistel_inverse(shape, keys, x);
  } while (x >= shape.num_candidates);
  return x;
}

}  // namespace negative_cosine
