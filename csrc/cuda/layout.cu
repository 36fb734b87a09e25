#include <algorithm>

#include "core/draw_cost.h"
#include "cuda/candidates/inverted_table.h"
#include "cuda/device/scratch.h"
#include "cuda/layout.h"

namespace negative_cosine {
namespace cuda {
namespace {

// In nanoseconds on an H100: benchmarks/results/gpu.csv has 0.64 ms for a step with a
// given table of 409,600 pairs that takes 0.11 ms with `shuffle`, where as many
// inverses are hashed.
constexpr DrawCost kDrawCost{0.1, 1.3};
// The sort takes 16 bytes a pair: 512 MiB.
constexpr int64_t kMostDraws = int64_t{1} << 25;

}  // namespace

ForwardLayout::ForwardLayout(const LossParams& params)
    : total(params.num_candidates * int64_t{sizeof(double)}) {}

// Whether rows are streamed also depends on addresses, so there is room for their sums
// in any case.
GradientLayout::GradientLayout(const LossParams& params) {
  const int64_t row_bytes = params.dim * compute_size_of(params.data_type);
  const int64_t sum_rows = std::min(kStreamedWarps, params.num_candidates);
  table_offset = sums_offset + round_up(sum_rows * row_bytes, 256);
  total =
      table_offset + (needs_rows_of_docs(params) ? inverted_table_bytes(params) : 0);
}

bool needs_rows_of_docs(const LossParams& params) {
  if (params.negative_indices != nullptr) {
    return params.normalize_over == NormalizeOver::kCandidates;
  }
  return sorts_draws(params, kDrawCost) &&
         params.batch_size * params.num_negatives <= kMostDraws;
}

}  // namespace cuda
}  // namespace negative_cosine
