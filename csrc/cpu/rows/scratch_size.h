// One thread's work memory for rows, whose size host and kernels share.
#pragma once

#include <cstdint>

#include "core/params.h"

namespace negative_cosine::cpu {

// Aligned to 64 bytes and of the size below, or tiles/scratch_size.h's.
using ThreadScratch = void*;

// Rows are met by panels: cosines of a panel, weights of a panel, weighted sum of a
// panel, so that the second use of an embedding row finds it in the cache.
constexpr int kPanelRows = 32;

// Three padded rows of the compute type and two padded lists of candidates (Workspace).
NEGATIVE_COSINE_INLINE int64_t row_scratch_bytes(const LossParams& params) {
  const int64_t row = round_up(params.dim * compute_size_of(params.data_type), 64) + 64;
  return 3 * row + 2 * round_up(params.num_negatives, 16) * int64_t{sizeof(int32_t)};
}

}  // namespace negative_cosine::cpu
