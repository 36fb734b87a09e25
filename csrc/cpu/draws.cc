#include "cpu/draws.h"

#include "core/draw_cost.h"
#include "core/sampler.h"
#include "cpu/kernel_table.h"

namespace negative_cosine::cpu {
namespace {

constexpr int64_t kCyclesOfAPlace = 20;

bool draws_on_ring(const LossParams& params) {
  return draws_by_seed(params) && params.sampler == Sampler::kRing;
}

int64_t key_stride(const LossParams& params) {
  return round_up(params.num_negatives, 16);
}

// In nanoseconds, on servers with AVX2 and AVX-512. An inverse is a hash in a vector
// and a test whether a query is there. A pair is hashed twice, counted, and put into
// memory that no cache holds. A step takes the same time either way at C = 1.5 B to 2
// B.
constexpr DrawCost kDrawCost{4, 8};

}  // namespace

SeedState seed_of(const LossParams& params) {
  if (params.seed == nullptr) return SeedState{};
  return seed_state(load_index(params.seed, params.seed_type, 0),
                    load_index(params.seed, params.seed_type, 1));
}

bool draws_by_seed(const LossParams& params) {
  return params.negative_indices == nullptr;
}

bool draws_by_shuffle(const LossParams& params) {
  return draws_by_seed(params) && params.sampler == Sampler::kShuffle;
}

bool draws_by_place(const LossParams& params) {
  return draws_by_seed(params) && params.sampler != Sampler::kShuffle;
}

bool needs_inverted_table(const LossParams& params) {
  return !draws_by_seed(params) || sorts_draws(params, kDrawCost);
}

int64_t key_table_bytes(const LossParams& params) {
  if (!draws_by_shuffle(params)) return 0;
  const int64_t rounds = feistel_shape(params.num_candidates).rounds;
  return rounds * key_stride(params) * int64_t{sizeof(uint32_t)};
}

int64_t ring_bytes(const LossParams& params) {
  if (!draws_on_ring(params)) return 0;
  return params.num_candidates * int64_t{sizeof(int32_t)};
}

KeyTable fill_key_table(const LossParams& params, uint32_t* keys) {
  if (!draws_by_shuffle(params)) return KeyTable{};
  const SeedState state = seed_of(params);
  const KeyTable table{feistel_shape(params.num_candidates), keys, params.num_negatives,
                       key_stride(params)};
  for (int64_t k = 0; k < table.stride; ++k) {
    const PermutationKeys permutation(state, static_cast<uint32_t>(k + 1));
    for (int round = 0; round < table.shape.rounds; ++round) {
      keys[round * table.stride + k] = permutation(round);
    }
  }
  return table;
}

PlaceOrder fill_place_order(const LossParams& params, int32_t* ring,
                            const ParallelFor& parallel_for) {
  if (ring_bytes(params) == 0) return PlaceOrder{params.num_candidates, nullptr};
  const FeistelShape shape = feistel_shape(params.num_candidates);
  const PermutationKeys keys(seed_of(params), 0);
  const auto fill = [&](int64_t begin, int64_t end) {
    kernels().permute_range(shape, keys, begin, end - begin, ring + begin);
  };
  parallel_for(params.num_candidates, kCyclesOfAPlace, fill);
  return PlaceOrder{params.num_candidates, ring};
}

}  // namespace negative_cosine::cpu
