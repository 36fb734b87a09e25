// The gradient pass: a query row scales its saved direction, a document row meets again
// the rows that drew it.
//
// The formulas are in core/formulas.h. The softmax weight of document j in row i is
// recomputed from one dot product and the row's saved values: a_i p_ij = e^(t_ij -
// shift_i) times the row's coefficient. A row whose coefficient is 0 takes no part.
#pragma once

#include <cstdint>

#include "core/formulas.h"
#include "cpu/candidates/candidates.h"
#include "cpu/rows/panel.h"
#include "cpu/rows/rows_of_query.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

template <typename Storage>
NEGATIVE_COSINE_INLINE void query_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows,
    const RowShape<ComputeType<Storage>>& shape, int64_t row) {
  using Real = ComputeType<Storage>;
  const Real coefficient = rows.coefficients[row].query;
  const Real factor = logit_scale_of<Real>(params) * coefficient;
  const auto* direction =
      static_cast<const Real*>(arguments.query_direction) + row * shape.dim;
  auto* gradient = static_cast<Storage*>(arguments.query_gradient) + row * shape.dim;
  if (coefficient == 0) return store_zeros(shape, gradient);
  store_row(
      shape, direction, [&](int64_t, Vector<Real> vector) { return vector * factor; },
      gradient);
}

// What the weights of a panel's rows are computed from, besides their cosines: one
// array each, zero where not in use.
template <typename Real, int kCount = kPanelRows>
struct PanelInputs {
  Real coefficients[kCount] = {};
  Real positive_cosines[kCount] = {};
  Real shifts[kCount] = {};
  Real log_q[kCount] = {};
};

template <typename Real, int kCount>
NEGATIVE_COSINE_INLINE void set_inputs(const SavedRow<Real>& row, int column,
                                       PanelInputs<Real, kCount>* inputs) {
  inputs->coefficients[column] = row.candidate_coefficient;
  inputs->positive_cosines[column] = row.positive_cosine;
  inputs->shifts[column] = row.shift;
}

// Saved rows as vectors: each holds one of their four numbers.
template <typename Real>
struct SavedVectors {
  Vector<Real> coefficients;
  Vector<Real> positive_cosines;
  Vector<Real> shifts;
  Vector<Real> query_inverse_norms;
};

template <typename Real>
NEGATIVE_COSINE_INLINE SavedVectors<Real> load_saved_rows(const SavedRow<Real>* saved,
                                                          const int32_t* indices) {
  SavedVectors<Real> rows;
  for (int lane = 0; lane < kLanes<Real>; ++lane) {
    const SavedRow<Real>& row = saved[indices[lane]];
    rows.coefficients[lane] = row.candidate_coefficient;
    rows.positive_cosines[lane] = row.positive_cosine;
    rows.shifts[lane] = row.shift;
    rows.query_inverse_norms[lane] = row.query_inverse_norm;
  }
  return rows;
}

#if defined(__AVX512F__)
// Sixteen rows are four vectors that each hold every fourth row, and then a transpose
// of four times four numbers in each block of lanes.
NEGATIVE_COSINE_INLINE SavedVectors<float> load_saved_rows(const SavedRow<float>* saved,
                                                           const int32_t* indices) {
  const auto row = [&](int r) {
    return _mm_load_ps(reinterpret_cast<const float*>(saved + indices[r]));
  };
  const auto every_fourth = [&](int r) {
    const __m512 low =
        _mm512_insertf32x4(_mm512_castps128_ps512(row(r)), row(r + 4), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(low, row(r + 8), 2), row(r + 12), 3);
  };
  const __m512 a = every_fourth(0);
  const __m512 b = every_fourth(1);
  const __m512 c = every_fourth(2);
  const __m512 d = every_fourth(3);
  const __m512 ab_low = _mm512_unpacklo_ps(a, b);
  const __m512 ab_high = _mm512_unpackhi_ps(a, b);
  const __m512 cd_low = _mm512_unpacklo_ps(c, d);
  const __m512 cd_high = _mm512_unpackhi_ps(c, d);
  return {_mm512_shuffle_ps(ab_low, cd_low, 0x44),
          _mm512_shuffle_ps(ab_low, cd_low, 0xee),
          _mm512_shuffle_ps(ab_high, cd_high, 0x44),
          _mm512_shuffle_ps(ab_high, cd_high, 0xee)};
}
#endif

// The saved values of the panel's rows. Behind the last one they are zeros, and so
// where a row takes no part: that one is replaced by zeros, without direction.
template <typename Storage>
NEGATIVE_COSINE_INLINE void gather_inputs(const LossParams& params,
                                          const SavedRow<ComputeType<Storage>>* saved,
                                          const Storage* zeros, Panel<Storage>* panel,
                                          PanelInputs<ComputeType<Storage>>* inputs) {
  using Real = ComputeType<Storage>;
  for (int c = 0; c < panel->count; c += kLanes<Real>) {
    int32_t indices[kLanes<Real>];
    for (int lane = 0; lane < kLanes<Real>; ++lane) {
      indices[lane] = panel->indices[c + lane < panel->count ? c + lane : c];
    }
    const SavedVectors<Real> rows = load_saved_rows(saved, indices);
    const Mask<Real> is_met = first_lanes<Real>(panel->count - c);
    const Mask<Real> takes_part = is_met & (rows.coefficients != 0);
    const auto store_part = [&](Real* to, Vector<Real> values) {
      store(to + c, takes_part ? values : Vector<Real>{});
    };
    store_part(inputs->coefficients, rows.coefficients);
    store_part(inputs->positive_cosines, rows.positive_cosines);
    store_part(inputs->shifts, rows.shifts);
    store_part(panel->inverse_norms, rows.query_inverse_norms);
    if (!is_any<Real>(is_met & ~takes_part)) continue;
    for (int lane = 0; lane < kLanes<Real>; ++lane) {
      if (takes_part[lane] == 0) panel->rows[c + lane] = zeros;
    }
  }
  if (params.doc_log_q != nullptr) {
    gather(static_cast<const Real*>(params.doc_log_q), *panel, inputs->log_q);
  }
}

// weights[c] = a_i p_ij for the panel's rows i.
template <typename Storage>
NEGATIVE_COSINE_INLINE void recompute_weights(
    const LossParams& params, const PanelInputs<ComputeType<Storage>>& inputs,
    int64_t doc, Panel<Storage>* panel) {
  using Real = ComputeType<Storage>;
  const Real scale = logit_scale_of<Real>(params);
  const Real margin = static_cast<Real>(params.margin);
  const Real log_q = log_q_at<Real>(params, doc);
  for (int c = 0; c < kPanelRows; ++c) {
    const Real logit =
        relative_logit(scale, margin, panel->cosines[c], inputs.positive_cosines[c],
                       log_q, inputs.log_q[c]);
    panel->logits[c] = c < panel->count ? logit - inputs.shifts[c] : -kInfinity<Real>;
  }
  for (int c = 0; c < kPanelRows; c += kLanes<Real>) {
    store(panel->weights + c,
          exponential(load(panel->logits + c)) * load(inputs.coefficients + c));
  }
}

// Adds the document's own query and writes the gradient; `projection` is H . d of the
// rows that drew it.
template <typename Storage>
NEGATIVE_COSINE_INLINE void store_doc_gradient(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows,
    const RowShape<ComputeType<Storage>>& shape, const ComputeType<Storage>* unit,
    ComputeType<Storage>* sums, ComputeType<Storage> projection, int64_t doc) {
  using Real = ComputeType<Storage>;
  const Real coefficient = doc < params.batch_size ? rows.coefficients[doc].doc : 0;
  if (coefficient != 0) {
    const SavedRow<Real> own = rows.saved[doc];
    const Storage* query = static_cast<const Storage*>(params.query) + doc * shape.dim;
    const Real weight = coefficient * own.query_inverse_norm;
    add_weighted_rows(shape, &query, &weight, 1, sums);
    projection += coefficient * own.positive_cosine;
  }
  const Real inverse_norm = static_cast<const Real*>(arguments.doc_inverse_norm)[doc];
  auto* gradient = static_cast<Storage*>(arguments.doc_gradient) + doc * shape.dim;
  if (is_unused_nan(inverse_norm, projection)) return store_zeros(shape, gradient);
  const Real factor = logit_scale_of<Real>(params) * inverse_norm;
  const auto combine = [&](int64_t offset, Vector<Real>) {
    return (load(sums + offset) - load(unit + offset) * projection) * factor;
  };
  store_row(shape, static_cast<const Storage*>(params.doc) + doc * shape.dim, combine,
            gradient);
}

// Panel by panel: dot products, weights, weighted sum. Returns H . d of the rows that
// drew the document.
template <typename Storage>
NEGATIVE_COSINE_INLINE ComputeType<Storage> meet_rows(
    const LossParams& params, const RowsOfQuery<ComputeType<Storage>>& rows_of_query,
    const RowShape<ComputeType<Storage>>& shape,
    const Workspace<ComputeType<Storage>>& work, int64_t doc, const IndexList& rows,
    const IndexList& next_rows) {
  using Real = ComputeType<Storage>;
  const auto* queries = static_cast<const Storage*>(params.query);
  const bool in_reach = is_in_reach<Storage>(params, params.batch_size);
  Vector<Real> projection = {};
  for (int64_t start = 0; start < rows.count; start += kPanelRows) {
    Panel<Storage> panel;
    PanelInputs<Real> inputs;
    start_panel(shape, queries, panel_of(rows, next_rows, start), &panel);
    RowsAhead<Storage> ahead(queries,
                             in_reach ? IndexList{nullptr, 0}
                                      : panel_of(rows, next_rows, start + kPanelRows),
                             steps_of_panel<Real>(panel.count, /*accumulates=*/true));
    gather_inputs(params, rows_of_query.saved,
                  reinterpret_cast<const Storage*>(work.zeros), &panel, &inputs);
    compute_cosines(shape, work.unit, &ahead, &panel);
    recompute_weights(params, inputs, doc, &panel);
    for (int c = 0; c < kPanelRows; c += kLanes<Real>) {
      const Vector<Real> weights = load(panel.weights + c);
      projection = multiply_add(weights, load(panel.cosines + c), projection);
      store(panel.weights + c, weights * load(panel.inverse_norms + c));
    }
    add_panel(shape, panel, &ahead, work.sums);
  }
  return sum_of_lanes(projection);
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void doc_gradient_row(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows_of_query,
    const RowShape<ComputeType<Storage>>& shape,
    const Workspace<ComputeType<Storage>>& work, int64_t doc, const IndexList& rows,
    const IndexList& next_rows) {
  using Real = ComputeType<Storage>;
  if (rows.count == 0 &&
      (doc >= params.batch_size || rows_of_query.coefficients[doc].doc == 0)) {
    return store_zeros(shape,
                       static_cast<Storage*>(arguments.doc_gradient) + doc * shape.dim);
  }
  const auto* row = static_cast<const Storage*>(params.doc) + doc * shape.dim;
  prefetch_row(shape, row + shape.dim);
  load_unit_row(shape, row, static_cast<const Real*>(arguments.doc_inverse_norm)[doc],
                work.unit);
  clear_sums(shape, work);
  const Real projection =
      meet_rows<Storage>(params, rows_of_query, shape, work, doc, rows, next_rows);
  store_doc_gradient<Storage>(params, arguments, rows_of_query, shape, work.unit,
                              work.sums, projection, doc);
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
