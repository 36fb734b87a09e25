// The forward pass of one query row: loss, statistics and query direction, by the
// formulas of core/formulas.h.
//
// All sums are online, relative to a running maximum (Milakov and Gimelshein, 2018),
// and G is summed beside them as FlashAttention sums its output: the candidates' rows
// are read once.
#pragma once

#include <cstdint>

#include "core/formulas.h"
#include "cpu/candidates/candidates.h"
#include "cpu/rows/panel.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// CandidateSums, with the sums still lane by lane.
template <typename Real>
struct OnlineSoftmax {
  Real shift;
  Vector<Real> weight_sum = {};
  Vector<Real> cosine_sum = {};
};

template <typename Storage>
NEGATIVE_COSINE_INLINE void relative_logits(const LossParams& params, int64_t row,
                                            ComputeType<Storage> positive_cosine,
                                            Panel<Storage>* panel) {
  using Real = ComputeType<Storage>;
  const Real scale = logit_scale_of<Real>(params);
  const Real margin = static_cast<Real>(params.margin);
  const Real positive_log_q = log_q_at<Real>(params, row);
  Real log_q[kPanelRows] = {};
  if (params.doc_log_q != nullptr) {
    gather(static_cast<const Real*>(params.doc_log_q), *panel, log_q);
  }
  for (int c = 0; c < kPanelRows; ++c) {
    const Real logit = relative_logit(scale, margin, panel->cosines[c], positive_cosine,
                                      log_q[c], positive_log_q);
    panel->logits[c] = c < panel->count ? logit : -kInfinity<Real>;
  }
}

template <typename Real>
NEGATIVE_COSINE_INLINE int32_t count_above_positive(const Real (&logits)[kPanelRows]) {
  int32_t count = 0;
  for (int c = 0; c < kPanelRows; ++c) count += is_above_positive(logits[c]);
  return count;
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real largest_of(const Real (&logits)[kPanelRows]) {
  Vector<Real> largest = load(logits);
  for (int c = kLanes<Real>; c < kPanelRows; c += kLanes<Real>) {
    const Vector<Real> next = load(logits + c);
    largest = largest < next ? next : largest;
  }
  return max_of_lanes(largest);
}

// Raises the shift to the panel's largest logit, if that is larger, and scales down
// what was summed before. An infinite logit raises it to the largest number.
template <typename Real>
NEGATIVE_COSINE_INLINE void raise_shift(Real largest, bool is_first_panel,
                                        const RowShape<Real>& shape,
                                        OnlineSoftmax<Real>* softmax, Real* sums) {
  if (!(largest > softmax->shift)) return;
  const Real previous = softmax->shift;
  softmax->shift = largest < kLargestNumber<Real> ? largest : kLargestNumber<Real>;
  if (is_first_panel) return;
  const Real factor = exp_of(previous - softmax->shift);
  softmax->weight_sum *= factor;
  softmax->cosine_sum *= factor;
  scale_row(shape, factor, sums);
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void exponentiate(Panel<Storage>* panel,
                                         OnlineSoftmax<ComputeType<Storage>>* softmax) {
  using Real = ComputeType<Storage>;
  for (int c = 0; c < kPanelRows; c += kLanes<Real>) {
    const Vector<Real> weights = exponential(load(panel->logits + c) - softmax->shift);
    softmax->weight_sum += weights;
    softmax->cosine_sum =
        multiply_add(weights, load(panel->cosines + c), softmax->cosine_sum);
    store(panel->weights + c, weights * load(panel->inverse_norms + c));
  }
}

// query_direction[row] = inverse norm * (G - (G . q) q).
template <typename Storage>
NEGATIVE_COSINE_INLINE void store_direction(
    const RowShape<ComputeType<Storage>>& shape, const ComputeType<Storage>* unit,
    const ComputeType<Storage>* sums, const Storage* doc,
    RowWeights<ComputeType<Storage>> weights, ComputeType<Storage> doc_inverse_norm,
    ComputeType<Storage> query_inverse_norm, ComputeType<Storage> projection,
    ComputeType<Storage>* direction) {
  using Real = ComputeType<Storage>;
  const Real doc_weight = weights.positive * doc_inverse_norm;
  const auto combine = [&](int64_t offset, Vector<Real> positive) {
    const Vector<Real> gathered = multiply_add(
        broadcast(doc_weight), positive, load(sums + offset) * weights.candidates);
    return (gathered - load(unit + offset) * projection) * query_inverse_norm;
  };
  store_row(shape, doc, combine, direction);
}

// A row's statistics: candidates kept, and how many of them beat the positive.
struct RowCounts {
  int32_t kept;
  int32_t rank;
};

// By bytes: the caller's memory may be aligned to a Real alone, as NumPy's is, and
// SavedRow to four.
template <typename Real>
NEGATIVE_COSINE_INLINE void save_row(const ForwardOutputs& outputs, int64_t row,
                                     const SavedRow<Real>& saved) {
  __builtin_memcpy(static_cast<char*>(outputs.saved_rows) + row * int64_t{sizeof saved},
                   &saved, sizeof saved);
}

// Writes what follows from a row's sums.
template <typename Storage>
NEGATIVE_COSINE_INLINE void store_row_results(
    const LossParams& params, const ForwardOutputs& outputs,
    const RowShape<ComputeType<Storage>>& shape, const ComputeType<Storage>* unit,
    const ComputeType<Storage>* sums,
    const CandidateSums<ComputeType<Storage>>& candidate_sums, RowCounts counts,
    ComputeType<Storage> query_inverse_norm, ComputeType<Storage> positive_cosine,
    int64_t row) {
  using Real = ComputeType<Storage>;
  const RowResult<Real> result = finish_row(params, candidate_sums, positive_cosine);
  static_cast<Real*>(outputs.positive_cosine)[row] = positive_cosine;
  static_cast<Real*>(outputs.row_scale_gradient)[row] = result.scale_gradient;
  if (params.normalize_over == NormalizeOver::kCandidates) {
    static_cast<Real*>(outputs.row_loss)[row] = result.row_loss;
  }
  save_row(outputs, row,
           saved_row_of(params, row, result, positive_cosine, candidate_sums.shift,
                        query_inverse_norm));
  if (outputs.query_direction != nullptr) {
    store_direction(
        shape, unit, sums, static_cast<const Storage*>(params.doc) + row * shape.dim,
        result.weights, static_cast<const Real*>(outputs.doc_inverse_norm)[row],
        query_inverse_norm, result.projection,
        static_cast<Real*>(outputs.query_direction) + row * shape.dim);
  }
  if (outputs.num_kept != nullptr) outputs.num_kept[row] = counts.kept;
  if (outputs.positive_rank != nullptr) outputs.positive_rank[row] = counts.rank;
}

// Panel by panel: dot products, softmax, weighted sum. Returns the row's counts.
template <typename Storage>
NEGATIVE_COSINE_INLINE RowCounts meet_candidates(
    const LossParams& params, const ForwardOutputs& outputs,
    const RowShape<ComputeType<Storage>>& shape,
    const Workspace<ComputeType<Storage>>& work, int64_t row,
    ComputeType<Storage> positive_cosine, const IndexList& candidates,
    const IndexList& next_candidates, OnlineSoftmax<ComputeType<Storage>>* softmax) {
  using Real = ComputeType<Storage>;
  const auto* docs = static_cast<const Storage*>(params.doc);
  const auto* doc_inverse_norms = static_cast<const Real*>(outputs.doc_inverse_norm);
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  const bool accumulates = outputs.query_direction != nullptr && !over_batch;
  const bool in_reach = is_in_reach<Storage>(params, params.num_candidates);
  int32_t rank = 0;
  for (int64_t start = 0; start < candidates.count; start += kPanelRows) {
    Panel<Storage> panel;
    start_panel(shape, docs, panel_of(candidates, next_candidates, start), &panel);
    RowsAhead<Storage> ahead(
        docs,
        in_reach ? IndexList{nullptr, 0}
                 : panel_of(candidates, next_candidates, start + kPanelRows),
        steps_of_panel<Real>(panel.count, accumulates));
    gather(doc_inverse_norms, panel, panel.inverse_norms);
    compute_cosines(shape, work.unit, &ahead, &panel);
    relative_logits(params, row, positive_cosine, &panel);
    rank += count_above_positive(panel.logits);
    raise_shift(largest_of(panel.logits), start == 0, shape, softmax, work.sums);
    exponentiate(&panel, softmax);
    if (accumulates) add_panel(shape, panel, &ahead, work.sums);
  }
  return RowCounts{static_cast<int32_t>(candidates.count), rank};
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void forward_row(const LossParams& params,
                                        const ForwardOutputs& outputs,
                                        const RowShape<ComputeType<Storage>>& shape,
                                        const Workspace<ComputeType<Storage>>& work,
                                        ComputeType<Storage> query_inverse_norm,
                                        int64_t row, const IndexList& candidates,
                                        const IndexList& next_candidates) {
  using Real = ComputeType<Storage>;
  const auto* query = static_cast<const Storage*>(params.query) + row * shape.dim;
  const auto* positive = static_cast<const Storage*>(params.doc) + row * shape.dim;
  const Real doc_inverse_norm = static_cast<const Real*>(outputs.doc_inverse_norm)[row];

  prefetch_row(shape, query + shape.dim);
  prefetch_row(shape, positive + shape.dim);
  load_unit_row(shape, query, query_inverse_norm, work.unit);
  const Real product = dot_product(shape, work.unit, positive);
  const Real positive_cosine =
      positive_cosine_of(product, doc_inverse_norm, query_inverse_norm);
  clear_sums(shape, work);

  OnlineSoftmax<Real> softmax{first_shift<Real>(params)};
  const RowCounts counts =
      meet_candidates<Storage>(params, outputs, shape, work, row, positive_cosine,
                               candidates, next_candidates, &softmax);
  const CandidateSums<Real> sums{softmax.shift, sum_of_lanes(softmax.weight_sum),
                                 sum_of_lanes(softmax.cosine_sum)};
  store_row_results<Storage>(params, outputs, shape, work.unit, work.sums, sums, counts,
                             query_inverse_norm, positive_cosine, row);
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
