// The forward pass of the rows of one tile: forward_rows.h's, with the candidates'
// cosines and sums as products of a tile with the panels of its band.
#pragma once

#include <cstdint>

#include "cpu/candidates/place_order.h"
#include "cpu/rows/forward.h"
#include "cpu/tiles/tile.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// The candidates of one panel.
template <typename Real>
struct CandidatePanel {
  int64_t indices[kPanelRows];
  Real poison[kPanelRows];  // see pack_row
  Real log_q[kPanelRows];
};

// What is known of one row of a tile while it meets its candidates.
template <typename Real>
struct TileRowState {
  OnlineSoftmax<Real> softmax;
  Real query_inverse_norm;
  Real poison;
  Real positive_cosine;
  Real positive_log_q;
  bool has_met = false;
  Mask<Real> kept = {};  // counts, lane by lane
  Mask<Real> rank = {};
};

// The positive's cosine is computed as a candidate's, so that equal rows tie.
template <typename Storage>
NEGATIVE_COSINE_INLINE void start_tile_row(
    const LossParams& params, const ForwardOutputs& outputs,
    const RowShape<ComputeType<Storage>>& shape,
    const TileMemory<ComputeType<Storage>>& memory, int64_t row,
    ComputeType<Storage>* unit, TileRowState<ComputeType<Storage>>* state) {
  using Real = ComputeType<Storage>;
  const auto* query = static_cast<const Storage*>(params.query) + row * shape.dim;
  const auto* doc = static_cast<const Storage*>(params.doc) + row * shape.dim;
  const Real doc_inverse_norm = static_cast<const Real*>(outputs.doc_inverse_norm)[row];
  Real* positive = memory.met(0);  // no panel is packed yet
  state->poison = pack_row(shape, query, state->query_inverse_norm, unit);
  const Real doc_poison = pack_row(shape, doc, doc_inverse_norm, positive);
  state->positive_cosine =
      product_of_units(memory, unit, positive) + (doc_poison + state->poison);
  state->positive_log_q = log_q_at<Real>(params, row);
}

// Products to cosines and logits; returns the largest logit.
template <typename Real>
NEGATIVE_COSINE_INLINE Real logits_of_candidates(
    const LossParams& params, const CandidatePanel<Real>& panel, const Columns& lanes,
    const Real (&kept)[kPanelRows], TileRowState<Real>* state,
    Real (&products)[kPanelRows], Real (&logits)[kPanelRows]) {
  const auto scale = broadcast(logit_scale_of<Real>(params));
  const auto margin = broadcast(static_cast<Real>(params.margin));
  const auto positive_cosine = broadcast(state->positive_cosine);
  const auto positive_log_q = broadcast(state->positive_log_q);
  Vector<Real> largest = broadcast(-kInfinity<Real>);
  for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
    const Vector<Real> log_q = load(panel.log_q + c);
    const auto is_kept = (load(kept + c) != 0) & (log_q != kInfinity<Real>);
    const Vector<Real> cosines =
        load(products + c) + (load(panel.poison + c) + state->poison);
    const Vector<Real> relative =
        relative_logit(scale, margin, cosines, positive_cosine, log_q, positive_log_q);
    const Vector<Real> kept_logits = is_kept ? relative : -kInfinity<Real>;
    store(products + c, is_kept ? cosines : Vector<Real>{});
    store(logits + c, kept_logits);
    largest = largest < kept_logits ? kept_logits : largest;
    state->kept -= is_kept;
    state->rank -= ~(kept_logits <= 0);  // as is_above_positive
  }
  return max_of_lanes(largest);
}

// Products to weights, and the row's sums of them.
template <typename Real>
NEGATIVE_COSINE_INLINE void weigh_candidates(
    const LossParams& params, int64_t row, const Columns& columns, const Columns& lanes,
    const CandidatePanel<Real>& panel, const RowShape<Real>& shape,
    TileRowState<Real>* state, Real* sums, Real (&products)[kPanelRows]) {
  alignas(kVectorBytes) Real kept[kPanelRows];
  alignas(kVectorBytes) Real logits[kPanelRows];
  const auto dropped = [&](int c) { return is_dropped(params, row, panel.indices[c]); };
  mark_kept(params, columns, lanes, dropped, kept);
  const Real largest =
      logits_of_candidates(params, panel, lanes, kept, state, products, logits);
  raise_shift(largest, !state->has_met, shape, &state->softmax, sums);
  state->has_met = true;
  for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
    const Vector<Real> weights = exponential(load(logits + c) - state->softmax.shift);
    state->softmax.weight_sum += weights;
    state->softmax.cosine_sum =
        multiply_add(weights, load(products + c), state->softmax.cosine_sum);
    store(products + c, weights);
  }
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void forward_tile(
    const LossParams& params, const ForwardOutputs& outputs,
    const void* query_inverse_norms, const PlaceOrder& order, int64_t first_place,
    int64_t last_place, const RowShape<ComputeType<Storage>>& shape,
    const TileMemory<ComputeType<Storage>>& memory, bool meets_candidates) {
  using Real = ComputeType<Storage>;
  const auto* queries = static_cast<const Storage*>(params.query);
  const auto* docs = static_cast<const Storage*>(params.doc);
  const auto* doc_inverse_norms = static_cast<const Real*>(outputs.doc_inverse_norm);
  TileRows rows;
  TileRowState<Real> states[kTileRows];
  memory.clear();
  for (int64_t place = first_place; place < last_place; ++place) {
    const int64_t row = order.index_at(place);
    const int64_t ahead = order.index_at(place + kPackedAhead);
    if (ahead < params.batch_size) {
      prefetch_row(shape, queries + ahead * shape.dim);
      prefetch_row(shape, docs + ahead * shape.dim);
    }
    if (row >= params.batch_size) continue;
    const int at = rows.count++;
    rows.indices[at] = row;
    rows.band_starts[at] = place - first_place;
    states[at].query_inverse_norm = static_cast<const Real*>(query_inverse_norms)[row];
    start_tile_row<Storage>(params, outputs, shape, memory, row, memory.unit(at),
                            &states[at]);
  }

  CandidatePanel<Real> panel;
  const auto start_panel = [&] { panel = CandidatePanel<Real>{}; };
  const auto pack = [&](int64_t place, int column) {
    const int64_t doc = order.index_at(place);
    prefetch_row(shape, docs + order.index_at(place + kPackedAhead) * shape.dim);
    panel.indices[column] = doc;
    panel.poison[column] = pack_row(shape, docs + doc * shape.dim,
                                    doc_inverse_norms[doc], memory.met(column));
    panel.log_q[column] = log_q_at<Real>(params, doc);
    return true;
  };
  const auto weigh = [&](int row, const Columns& columns, const Columns& lanes,
                         Real(&products)[kPanelRows]) {
    weigh_candidates(params, rows.indices[row], columns, lanes, panel, shape,
                     &states[row], memory.sum(row), products);
  };
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  const bool sums_rows = outputs.query_direction != nullptr && !over_batch;
  const Band band{1, meets_candidates ? params.num_negatives : 0};
  meet_band(memory, rows, band, first_place, sums_rows, start_panel, pack, weigh);

  for (int at = 0; at < rows.count; ++at) {
    if (outputs.query_direction != nullptr && at + kFinishedAhead < rows.count) {
      const int64_t ahead = rows.indices[at + kFinishedAhead] * shape.dim;
      prefetch_row(shape, docs + ahead);
      prefetch_row(shape, static_cast<const Real*>(outputs.query_direction) + ahead);
    }
    const TileRowState<Real>& state = states[at];
    finish_forward_row<Storage>(
        params, outputs, shape, memory.unit(at), memory.sum(at), state.softmax,
        RowCounts{count_of_lanes<Real>(state.kept), count_of_lanes<Real>(state.rank)},
        state.query_inverse_norm, state.positive_cosine, rows.indices[at]);
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
