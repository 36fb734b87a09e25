#include <algorithm>

#include "cuda/candidates/inverted_table.h"
#include "cuda/device/scratch.h"
#include "cuda/layout.h"

namespace negative_cosine {
namespace cuda {

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
  return params.negative_indices != nullptr &&
         params.normalize_over == NormalizeOver::kCandidates;
}

}  // namespace cuda
}  // namespace negative_cosine
