#include "cpu/candidates/index_check.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>

namespace negative_cosine::cpu {
namespace {

constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
constexpr int64_t kIndicesAtOnce = 256;

// A negative index is a large one, without its sign.
template <typename Index>
bool is_outside(Index index, int64_t num_candidates) {
  return static_cast<uint64_t>(int64_t{index}) >= static_cast<uint64_t>(num_candidates);
}

// Without a branch in it: the compiler makes vectors of the loop.
template <typename Index>
bool any_outside(const Index* indices, int64_t count, int64_t num_candidates) {
  Index smallest = 0, largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    smallest = std::min(smallest, indices[i]);
    largest = std::max(largest, indices[i]);
  }
  return smallest < 0 || is_outside(largest, num_candidates);
}

// The first position in begin..end-1 of an index that is no document, or kNone.
template <typename Index>
int64_t first_outside(const LossParams& params, int64_t begin, int64_t end) {
  const auto* indices = static_cast<const Index*>(params.negative_indices);
  for (int64_t start = begin; start < end; start += kIndicesAtOnce) {
    const int64_t stop = std::min(start + kIndicesAtOnce, end);
    if (!any_outside(indices + start, stop - start, params.num_candidates)) continue;
    return std::find_if(
               indices + start, indices + stop,
               [&](Index index) { return is_outside(index, params.num_candidates); }) -
           indices;
  }
  return kNone;
}

void lower_to(std::atomic<int64_t>* lowest, int64_t value) {
  int64_t current = lowest->load();
  while (value < current && !lowest->compare_exchange_weak(current, value)) {
  }
}

Status outside(const LossParams& params, int64_t position) {
  const int64_t index =
      load_index(params.negative_indices, params.negative_indices_type, position);
  return Status::InvalidArgument(
      "negative_indices must be in [0, " + std::to_string(params.num_candidates) +
      "), the row numbers of doc, got " + std::to_string(index) + " at position [" +
      std::to_string(position / params.num_negatives) + ", " +
      std::to_string(position % params.num_negatives) +
      "]; pad short rows with their own row number, which mask_self drops: "
      "tf.where(table < 0, tf.range(B, dtype=table.dtype)[:, tf.newaxis], table), "
      "where table = negative_indices.to_tensor(-1) for a ragged tensor");
}

}  // namespace

Status check_indices(const LossParams& params, const ParallelFor& parallel_for) {
  if (params.negative_indices == nullptr) return Status::Ok();
  std::atomic<int64_t> first{kNone};
  const int64_t count = params.batch_size * params.num_negatives;
  parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    const bool wide = params.negative_indices_type == IndexType::kInt64;
    lower_to(&first, wide ? first_outside<int64_t>(params, begin, end)
                          : first_outside<int32_t>(params, begin, end));
  });
  return first == kNone ? Status::Ok() : outside(params, first);
}

}  // namespace negative_cosine::cpu
