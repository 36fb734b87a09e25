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

NEGATIVE_COSINE_INLINE bool any_lane(Int32Vector mask) {
  uint64_t words[kVectorBytes / 8];
  __builtin_memcpy(words, &mask, sizeof mask);
  uint64_t any = 0;
  for (const uint64_t word : words) any |= word;
  return any != 0;
}

// Applies `network` once, and again to the lanes that are not yet inside 0..C-1.
template <typename Network>
NEGATIVE_COSINE_INLINE Uint32Vector cycle_walk(const FeistelShape& shape,
                                               Uint32Vector x, const Network& network) {
  x = network(x);
  while (any_lane(x >= shape.num_candidates)) {
    x = x >= shape.num_candidates ? network(x) : x;
  }
  return x;
}

// values[k] = network(keys of permutation k, start), walked into 0..C-1, one
// permutation a lane: pi_k(start) or its inverse.
template <typename Network>
NEGATIVE_COSINE_INLINE void evaluate_by_each_key(const KeyTable& table, int64_t start,
                                                 const Network& network,
                                                 int32_t* values) {
  const auto at = Uint32Vector{} + static_cast<uint32_t>(start);
  for (int64_t k = 0; k < table.count; k += kLanes<float>) {
    const auto keys = [&](int round) {
      return load_bits<Uint32Vector>(table.keys + round * table.stride + k);
    };
    const auto one_pass = [&](Uint32Vector x) { return network(keys, x); };
    store(values + k, cycle_walk(table.shape, at, one_pass));
  }
}

NEGATIVE_COSINE_INLINE void permute_by_each_key(const KeyTable& table, int64_t start,
                                                int32_t* values) {
  const auto network = [&](const auto& keys, Uint32Vector x) {
    return feistel_forward(table.shape, keys, x);
  };
  evaluate_by_each_key(table, start, network, values);
}

NEGATIVE_COSINE_INLINE void invert_by_each_key(const KeyTable& table, int64_t start,
                                               int32_t* values) {
  const auto network = [&](const auto& keys, Uint32Vector x) {
    return feistel_inverse(table.shape, keys, x);
  };
  evaluate_by_each_key(table, start, network, values);
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
  if (params.doc_ids != nullptr || params.query_ids != nullptr) return false;
  const int32_t masked = params.mask_self ? static_cast<int32_t>(self) : -1;
  int32_t dropped = 0;
  for (int64_t k = 0; k < params.num_negatives; ++k) {
    dropped |= (values[k] == masked) | (values[k] >= limit);
  }
  return dropped == 0;
}

// Documents at places begin..end-1 of the ring: one permutation, many values.
static void ring_order(int64_t num_candidates, SeedState state, int64_t begin,
                       int64_t end, int32_t* ring) {
  const FeistelShape shape = feistel_shape(num_candidates);
  const PermutationKeys keys(state, 0);
  const auto one_pass = [&](Uint32Vector x) { return feistel_forward(shape, keys, x); };
  constexpr int kWidth = kLanes<float>;
  for (int64_t start = begin; start < end; start += kWidth) {
    uint32_t places[kWidth];
    for (int lane = 0; lane < kWidth; ++lane) {
      // A place behind the last would walk for ever.
      const int64_t place = start + lane < end ? start + lane : start;
      places[lane] = static_cast<uint32_t>(place);
    }
    int32_t documents[kWidth];
    store(documents, cycle_walk(shape, load_bits<Uint32Vector>(places), one_pass));
    for (int lane = 0; lane < kWidth && start + lane < end; ++lane) {
      ring[start + lane] = documents[lane];
    }
  }
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
    return IndexList{source.table_rows + start, source.table_starts[doc + 1] - start};
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
