// Lists of the pairs that enter the loss: a row's candidates, and a document's rows.
//
// Both leave out dropped pairs, so that a dropped row of embeddings is never read.
#pragma once

#include <cstdint>

#include "core/rules.h"
#include "core/sampler.h"
#include "cpu/candidates/key_table.h"
#include "cpu/candidates/rows_of_docs.h"
#include "cpu/device/vector.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// values[k] = evaluate(keys of permutation k, start), one permutation a lane.
template <typename Evaluate>
NEGATIVE_COSINE_INLINE void evaluate_by_each_key(const KeyTable& table, int64_t start,
                                                 const Evaluate& evaluate,
                                                 int32_t* values) {
  const auto at = Uint32Vector{} + static_cast<uint32_t>(start);
  for (int64_t k = 0; k < table.count; k += kLanes<float>) {
    const auto keys = [&](int round) {
      return load_bits<Uint32Vector>(table.keys + round * table.stride + k);
    };
    store(values + k, evaluate(keys, at));
  }
}

NEGATIVE_COSINE_INLINE void permute_by_each_key(const KeyTable& table, int64_t start,
                                                int32_t* values) {
  const auto evaluate = [&](const auto& keys, Uint32Vector x) {
    return permute(table.shape, keys, x);
  };
  evaluate_by_each_key(table, start, evaluate, values);
}

NEGATIVE_COSINE_INLINE void invert_by_each_key(const KeyTable& table, int64_t start,
                                               int32_t* values) {
  const auto evaluate = [&](const auto& keys, Uint32Vector x) {
    return permute_back(table.shape, keys, x);
  };
  evaluate_by_each_key(table, start, evaluate, values);
}

NEGATIVE_COSINE_INLINE void read_table_row(const LossParams& params, int64_t row,
                                           int32_t* values) {
  const int64_t start = row * params.num_negatives;
  for (int64_t k = 0; k < params.num_negatives; ++k) {
    values[k] = static_cast<int32_t>(
        load_index(params.negative_indices, params.negative_indices_type, start + k));
  }
}

// Rows of a matrix to meet, in a fixed order.
struct IndexList {
  const int32_t* indices;
  int64_t count;
};

template <typename Real>
NEGATIVE_COSINE_INLINE bool any_excluded(const LossParams& params,
                                         const int32_t* candidates) {
  const auto* log_q = static_cast<const Real*>(params.doc_log_q);
  int32_t excluded = 0;
  for (int64_t k = 0; k < params.num_negatives; ++k) {
    excluded |= is_excluded(log_q[candidates[k]]);
  }
  return excluded != 0;
}

NEGATIVE_COSINE_INLINE bool any_excluded(const LossParams& params,
                                         const int32_t* candidates) {
  if (params.doc_log_q == nullptr) return false;
  return params.data_type == DataType::kFloat64
             ? any_excluded<double>(params, candidates)
             : any_excluded<float>(params, candidates);
}

// Whether a list drops nothing, where that is quickly seen: there are no ids to
// compare, and all its values are below `limit` and none is `self`.
NEGATIVE_COSINE_INLINE bool keeps_all(const LossParams& params, int64_t self,
                                      int64_t limit, const int32_t* values) {
  if (has_ids(params)) return false;
  const int32_t masked = params.mask_self ? static_cast<int32_t>(self) : -1;
  int32_t dropped = 0;
  for (int64_t k = 0; k < params.num_negatives; ++k) {
    dropped |= (values[k] == masked) | (values[k] >= limit);
  }
  return dropped == 0;
}

// values[i] = the permutation at start + i, for i below `count`: one permutation, many
// numbers.
static void permute_range(const FeistelShape& shape, const PermutationKeys& keys,
                          int64_t start, int64_t count, int32_t* values) {
  constexpr int kWidth = kLanes<float>;
  uint32_t round_keys[kMaxFeistelRounds];
  for (int round = 0; round < shape.rounds; ++round) round_keys[round] = keys(round);
  const auto key = [&](int round) { return Uint32Vector{} + round_keys[round]; };
  uint32_t numbers[kWidth];
  for (int lane = 0; lane < kWidth; ++lane) {
    numbers[lane] = static_cast<uint32_t>(start + lane);
  }
  auto x = load_bits<Uint32Vector>(numbers);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth, x += kWidth) {
    store(values + i, permute(shape, key, x));
  }
  int32_t last[kWidth];
  store(last, permute(shape, key, x));
  for (int lane = 0; i + lane < count; ++lane) values[i + lane] = last[lane];
}

// `met` without the pairs that are dropped, in the same place.
template <typename IsDropped>
NEGATIVE_COSINE_INLINE IndexList without_dropped(int32_t* met, int64_t count,
                                                 const IsDropped& dropped) {
  int64_t kept = 0;
  for (int64_t k = 0; k < count; ++k) {
    const int32_t index = met[k];
    met[kept] = index;
    kept += !dropped(index);
  }
  return IndexList{met, kept};
}

// The candidates of `row` that are not dropped, in the order k = 1..K. `buffer` has
// room for K rounded up to a multiple of 16.
static IndexList kept_candidates(const LossParams& params, const KeyTable& keys,
                                 int64_t row, int32_t* buffer) {
  if (params.negative_indices != nullptr) {
    read_table_row(params, row, buffer);
  } else {
    permute_by_each_key(keys, row, buffer);
  }
  if (keeps_all(params, row, params.num_candidates, buffer) &&
      !any_excluded(params, buffer)) {
    return IndexList{buffer, params.num_negatives};
  }
  return without_dropped(buffer, params.num_negatives, [&](int32_t candidate) {
    return is_dropped(params, row, candidate);
  });
}

// The rows that drew `doc` and did not drop it; `buffer` as above.
static IndexList kept_rows(const LossParams& params, const RowsOfDocs& source,
                           int64_t doc, int32_t* buffer) {
  if (is_excluded(params, doc)) return IndexList{buffer, 0};
  if (source.table_starts != nullptr) {
    const int64_t start = source.table_starts[doc];
    return IndexList{source.table_rows + (start - source.table_offset),
                     source.table_starts[doc + 1] - start};
  }
  invert_by_each_key(source.keys, doc, buffer);
  if (keeps_all(params, doc, params.batch_size, buffer)) {
    return IndexList{buffer, params.num_negatives};
  }
  return without_dropped(buffer, params.num_negatives, [&](int32_t row) {
    return row >= params.batch_size || is_dropped(params, row, doc);
  });
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
