// The sampler: pseudo-random permutations of 0..C-1 that are never stored.
//
// A permutation is a keyed bijection: the numbers 0..C-1 are written in lines of
// 2^low_bits, and a Feistel network takes turns to shift the columns, each by a hash of
// its number, and to permute the lines, each by an exclusive or with a hash of its
// number. The last line may be shorter: a column that it has no part in is shifted
// within the lines above, and the short line itself is never permuted. So each round is
// a bijection of 0..C-1 for any C, and nothing has to be drawn again. (Feistel networks
// on a x b numbers: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.
// They permute again what lands outside of 0..C-1: some lane of a vector nearly always
// does.) It is evaluated and inverted at single points, in registers.
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

// The lines and rounds of a network on 0..C-1. Small domains need more rounds to look
// random: a line or column of a few numbers has few ways to be moved. The counts are
// the smallest tried ones at which permutations (C <= 5) and pairs (up to 16 bits) pass
// chi-square tests over 10^6 seeds, with a margin.
struct FeistelShape {
  uint32_t low_bits;    // a number is (line << low_bits) | column
  uint32_t high_bits;   // enough for the number of lines
  uint32_t full_lines;  // of 2^low_bits numbers
  uint32_t rest;        // numbers in the short line below them
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
  const auto count = static_cast<uint32_t>(num_candidates);
  return FeistelShape{low_bits, bits - low_bits, count >> low_bits,
                      count & ((1u << low_bits) - 1u), rounds};
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

// All bits where x < y, else none: in each lane.
NEGATIVE_COSINE_INLINE uint32_t mask_if_less(uint32_t x, uint32_t y) {
  return x < y ? ~uint32_t{0} : 0;
}
template <typename Word>
NEGATIVE_COSINE_INLINE Word mask_if_less(Word x, uint32_t y) {
  return (Word)(x < y);
}

template <typename Word>
NEGATIVE_COSINE_INLINE Word smaller(Word x, Word y) {
  return x < y ? x : y;
}

// The high bits of `mix` of a number of 16 bits or less, xor a key. There the first
// step of `mix` would only be another key, and the last one reaches no high bit.
template <typename Word>
NEGATIVE_COSINE_INLINE Word round_hash(Word x) {
  x = x * 0x85ebca6bu;
  x = x ^ (x >> 13);
  return x * 0xc2b2ae35u;
}

template <typename Word>
NEGATIVE_COSINE_INLINE Word column_length(const FeistelShape& shape, Word column) {
  return shape.full_lines - mask_if_less(column, shape.rest);
}

// How far a column is shifted: a hash, scaled to 0..length-1. The product has 32 bits,
// for length <= 2^high_bits.
template <typename Word>
NEGATIVE_COSINE_INLINE Word column_shift(const FeistelShape& shape, Word hash,
                                         Word length) {
  return ((hash >> shape.high_bits) * length) >> (32 - shape.high_bits);
}

// `line`, moved down or up in a column, round and round: below the column's end, the
// smaller of two unsigned numbers is the one that did not pass zero.
template <typename Word>
NEGATIVE_COSINE_INLINE Word shifted(const FeistelShape& shape, Word line, Word column,
                                    Word key) {
  const Word length = column_length(shape, column);
  line = line + column_shift(shape, round_hash<Word>(column ^ key), length);
  return smaller<Word>(line, line - length);
}
template <typename Word>
NEGATIVE_COSINE_INLINE Word shifted_back(const FeistelShape& shape, Word line,
                                         Word column, Word key) {
  const Word length = column_length(shape, column);
  line = line - column_shift(shape, round_hash<Word>(column ^ key), length);
  return smaller<Word>(line, line + length);
}

// `column`, moved within its line: the same there and back.
template <typename Word>
NEGATIVE_COSINE_INLINE Word swapped(const FeistelShape& shape, Word line, Word column,
                                    Word key) {
  const Word hash = round_hash<Word>(line ^ key) >> (32 - shape.low_bits);
  return column ^ (hash & mask_if_less(line, shape.full_lines));
}

// The permutation and its inverse at a number below C. `keys(round)` gives the round's
// key.
template <typename Word, typename Keys>
NEGATIVE_COSINE_INLINE Word permute(const FeistelShape& shape, const Keys& keys,
                                    Word x) {
  Word line = x >> shape.low_bits;
  Word column = x ^ (line << shape.low_bits);
  for (int round = 0; round < shape.rounds; round += 2) {
    line = shifted<Word>(shape, line, column, keys(round));
    column = swapped<Word>(shape, line, column, keys(round + 1));
  }
  return (line << shape.low_bits) | column;
}

template <typename Word, typename Keys>
NEGATIVE_COSINE_INLINE Word permute_back(const FeistelShape& shape, const Keys& keys,
                                         Word x) {
  Word line = x >> shape.low_bits;
  Word column = x ^ (line << shape.low_bits);
  for (int round = shape.rounds - 2; round >= 0; round -= 2) {
    column = swapped<Word>(shape, line, column, keys(round + 1));
    line = shifted_back<Word>(shape, line, column, keys(round));
  }
  return (line << shape.low_bits) | column;
}

}  // namespace negative_cosine
