// A counting sort of the table's pairs by document: count, prefix sums, place.
#include "cpu/inverted_table.h"

#include <algorithm>

#include "core/candidate_rules.h"

namespace negative_cosine {
namespace {

template <typename Visit>
void for_each_kept_pair(const LossParams& params, const Visit& visit) {
  int64_t position = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    for (int64_t k = 0; k < params.num_negatives; ++k, ++position) {
      const int64_t doc =
          load_index(params.negative_indices, params.negative_indices_type, position);
      if (!is_dropped(params, row, doc)) visit(static_cast<int32_t>(row), doc);
    }
  }
}

}  // namespace

void invert_table(const LossParams& params, int64_t* starts, int32_t* rows) {
  const int64_t num_docs = params.num_candidates;
  std::fill_n(starts, num_docs + 1, 0);
  for_each_kept_pair(params, [&](int32_t, int64_t doc) { ++starts[doc]; });

  // Each start becomes its document's end; placing backwards would reverse the order,
  // so the ends are shifted by one document while they are filled.
  int64_t total = 0;
  for (int64_t doc = 0; doc < num_docs; ++doc) {
    const int64_t count = starts[doc];
    starts[doc] = total;
    total += count;
  }
  for_each_kept_pair(params,
                     [&](int32_t row, int64_t doc) { rows[starts[doc]++] = row; });

  // starts[j] is now the end of document j, which is the start of document j + 1.
  std::copy_backward(starts, starts + num_docs, starts + num_docs + 1);
  starts[0] = 0;
}

}  // namespace negative_cosine
