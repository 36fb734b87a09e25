#include <algorithm>

#include "core/draw_cost.h"
#include "cuda/candidates/inverted_table.h"
#include "cuda/device/scratch.h"
#include "cuda/layout.h"

namespace negative_cosine {
namespace cuda {
namespace {

// In nanoseconds, a fit to training steps on an H100. There both ways took as long with
// 1024 queries that draw 50 of 65,536 documents, and with 8192 that draw 50 of about
// 46,000; by these figures with 50,000 and 63,000.
constexpr DrawCost kDrawCost{0.013, 0.025};
// Of the seven launches of a sort in two passes.
constexpr double kCostOfLaunches = 31e3;
// The sort takes 16 bytes a pair: 512 MiB.
constexpr int64_t kMostDraws = int64_t{1} << 25;

// So many numbers of each block of a reduction over the batch.
int64_t bytes_of_parts(const LossParams& params, int64_t numbers) {
  if (params.normalize_over != NormalizeOver::kBatch) return 0;
  return numbers * kMostReductionBlocks * int64_t{sizeof(double)};
}

}  // namespace

ForwardLayout::ForwardLayout(const LossParams& params)
    : parts_offset(params.num_candidates * int64_t{sizeof(double)}),
      total(parts_offset + bytes_of_parts(params, 3)) {}

// Whether rows are streamed also depends on addresses, so there is room for their sums
// in any case.
GradientLayout::GradientLayout(const LossParams& params) {
  const int64_t row_bytes = params.dim * compute_size_of(params.data_type);
  const int64_t sum_rows = std::min(kStreamedWarps, params.num_candidates);
  sums_offset = parts_offset + bytes_of_parts(params, 1);
  table_offset = sums_offset + round_up(sum_rows * row_bytes, 256);
  total =
      table_offset + (needs_rows_of_docs(params) ? inverted_table_bytes(params) : 0);
}

bool needs_rows_of_docs(const LossParams& params) {
  if (params.negative_indices != nullptr) {
    return params.normalize_over == NormalizeOver::kCandidates;
  }
  const auto draws = [&](int64_t rows, double cost) {
    return static_cast<double>(rows) * static_cast<double>(params.num_negatives) * cost;
  };
  const double saved = draws(params.num_candidates, kDrawCost.inverse) -
                       draws(params.batch_size, kDrawCost.sorted);
  return sorts_draws(params, kDrawCost) && saved > kCostOfLaunches &&
         params.batch_size * params.num_negatives <= kMostDraws;
}

}  // namespace cuda
}  // namespace negative_cosine
