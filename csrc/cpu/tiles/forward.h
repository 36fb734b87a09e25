// The forward pass for samplers whose candidates lie side by side: a tile of
// neighbouring places goes through the band of documents behind them.
//
// It is rows/forward.h's pass, with the candidates' cosines and sums as products of a
// tile with the panels of its band: load the rows, meet the band by panels, store.
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
  Real nan_addend[kPanelRows];  // see pack_row
  Real log_q[kPanelRows];
};

// What is known of one row of a tile while it meets its candidates.
template <typename Real>
struct ForwardTileState {
  OnlineSoftmax<Real> softmax;
  Real query_inverse_norm;
  Real nan_addend;
  Real positive_cosine;
  Real positive_log_q;
  bool has_met = false;
  Mask<Real> kept = {};  // counts, lane by lane
  Mask<Real> rank = {};
};

template <typename Storage>
class ForwardTile {
 public:
  using Real = ComputeType<Storage>;

  NEGATIVE_COSINE_INLINE_MEMBER ForwardTile(const LossParams& params,
                                            const ForwardOutputs& outputs,
                                            const void* query_inverse_norms,
                                            const PlaceOrder& order,
                                            const RowShape<Real>& shape,
                                            const TileMemory<Real>& memory)
      : params_(params),
        outputs_(outputs),
        order_(order),
        shape_(shape),
        memory_(memory),
        queries_(static_cast<const Storage*>(params.query)),
        docs_(static_cast<const Storage*>(params.doc)),
        query_inverse_norms_(static_cast<const Real*>(query_inverse_norms)),
        doc_inverse_norms_(static_cast<const Real*>(outputs.doc_inverse_norm)) {}

  // The rows at places first..last-1, which meet `num_negatives` candidates each.
  NEGATIVE_COSINE_INLINE_MEMBER void run(int64_t first, int64_t last,
                                         int64_t num_negatives) {
    memory_.clear();
    load_rows(first, last);
    const bool over_batch = params_.normalize_over == NormalizeOver::kBatch;
    const bool accumulates = outputs_.query_direction != nullptr && !over_batch;
    meet_band(memory_, rows_, Band{1, num_negatives}, first, accumulates, this);
    store_rows();
  }

  // --- The steps of meet_band --------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER void clear_panel() { panel_ = CandidatePanel<Real>{}; }

  NEGATIVE_COSINE_INLINE_MEMBER bool pack(int64_t place, int column) {
    const int64_t doc = order_.index_at(place);
    prefetch_row(shape_, docs_ + order_.index_at(place + kPackedAhead) * shape_.dim);
    panel_.indices[column] = doc;
    panel_.nan_addend[column] = pack_row(shape_, docs_ + doc * shape_.dim,
                                         doc_inverse_norms_[doc], memory_.met(column));
    panel_.log_q[column] = log_q_at<Real>(params_, doc);
    return true;
  }

  NEGATIVE_COSINE_INLINE_MEMBER void weigh(int row, const Columns& columns,
                                           const Columns& lanes,
                                           Real (&products)[kPanelRows]) {
    ForwardTileState<Real>* state = &states_[row];
    alignas(kVectorBytes) Real kept[kPanelRows];
    alignas(kVectorBytes) Real logits[kPanelRows];
    const auto dropped = [&](int c) {
      return is_dropped(params_, rows_.indices[row], panel_.indices[c]);
    };
    mark_kept(params_, columns, lanes, dropped, kept);
    const Real largest = compute_logits(lanes, kept, state, products, logits);
    raise_shift(largest, !state->has_met, shape_, &state->softmax, memory_.sum(row));
    state->has_met = true;
    exponentiate(lanes, logits, &state->softmax, products);
  }

 private:
  // --- Load --------------------------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER void load_rows(int64_t first, int64_t last) {
    for (int64_t place = first; place < last; ++place) {
      const int64_t ahead = order_.index_at(place + kPackedAhead);
      if (ahead < params_.batch_size) {
        prefetch_row(shape_, queries_ + ahead * shape_.dim);
        prefetch_row(shape_, docs_ + ahead * shape_.dim);
      }
      const int64_t row = order_.index_at(place);
      if (row >= params_.batch_size) continue;
      rows_.indices[rows_.count] = row;
      rows_.band_starts[rows_.count] = place - first;
      load_row(row, memory_.unit(rows_.count), &states_[rows_.count]);
      ++rows_.count;
    }
  }

  // The positive's cosine is computed as a candidate's, so that equal rows tie.
  NEGATIVE_COSINE_INLINE_MEMBER void load_row(int64_t row, Real* unit,
                                              ForwardTileState<Real>* state) {
    Real* positive = memory_.met(0);  // no panel is packed yet
    state->query_inverse_norm = query_inverse_norms_[row];
    state->nan_addend =
        pack_row(shape_, queries_ + row * shape_.dim, state->query_inverse_norm, unit);
    const Real doc_nan_addend =
        pack_row(shape_, docs_ + row * shape_.dim, doc_inverse_norms_[row], positive);
    state->positive_cosine = product_of_units(memory_, unit, positive) +
                             (doc_nan_addend + state->nan_addend);
    state->positive_log_q = log_q_at<Real>(params_, row);
  }

  // --- Weigh -------------------------------------------------------------------------

  // Products to cosines and logits; returns the largest logit.
  NEGATIVE_COSINE_INLINE_MEMBER Real compute_logits(const Columns& lanes,
                                                    const Real (&kept)[kPanelRows],
                                                    ForwardTileState<Real>* state,
                                                    Real (&products)[kPanelRows],
                                                    Real (&logits)[kPanelRows]) const {
    const auto scale = broadcast(logit_scale_of<Real>(params_));
    const auto margin = broadcast(static_cast<Real>(params_.margin));
    const auto positive_cosine = broadcast(state->positive_cosine);
    const auto positive_log_q = broadcast(state->positive_log_q);
    Vector<Real> largest = broadcast(-kInfinity<Real>);
    for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
      const Vector<Real> log_q = load(panel_.log_q + c);
      const auto is_kept = (load(kept + c) != 0) & (log_q != kInfinity<Real>);
      const Vector<Real> cosines =
          load(products + c) + (load(panel_.nan_addend + c) + state->nan_addend);
      const Vector<Real> relative = relative_logit(
          scale, margin, cosines, positive_cosine, log_q, positive_log_q);
      const Vector<Real> kept_logits = is_kept ? relative : -kInfinity<Real>;
      store(products + c, is_kept ? cosines : Vector<Real>{});
      store(logits + c, kept_logits);
      largest = largest < kept_logits ? kept_logits : largest;
      state->kept -= is_kept;
      state->rank -= ~(kept_logits <= 0);  // as is_above_positive
    }
    return max_of_lanes(largest);
  }

  // Cosines to weights, and the row's sums of both.
  NEGATIVE_COSINE_INLINE_MEMBER static void exponentiate(
      const Columns& lanes, const Real (&logits)[kPanelRows],
      OnlineSoftmax<Real>* softmax, Real (&products)[kPanelRows]) {
    for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
      const Vector<Real> weights = exponential(load(logits + c) - softmax->shift);
      softmax->weight_sum += weights;
      softmax->cosine_sum =
          multiply_add(weights, load(products + c), softmax->cosine_sum);
      store(products + c, weights);
    }
  }

  // --- Store -------------------------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER void store_rows() const {
    for (int at = 0; at < rows_.count; ++at) {
      prefetch_results(at + kFinishedAhead);
      const ForwardTileState<Real>& state = states_[at];
      store_row_results<Storage>(
          params_, outputs_, shape_, memory_.unit(at), memory_.sum(at), state.softmax,
          RowCounts{count_of_lanes<Real>(state.kept), count_of_lanes<Real>(state.rank)},
          state.query_inverse_norm, state.positive_cosine, rows_.indices[at]);
    }
  }

  NEGATIVE_COSINE_INLINE_MEMBER void prefetch_results(int at) const {
    if (outputs_.query_direction == nullptr || at >= rows_.count) return;
    const int64_t offset = rows_.indices[at] * shape_.dim;
    prefetch_row(shape_, docs_ + offset);
    prefetch_row(shape_, static_cast<const Real*>(outputs_.query_direction) + offset);
  }

  const LossParams& params_;
  const ForwardOutputs& outputs_;
  const PlaceOrder& order_;
  const RowShape<Real>& shape_;
  const TileMemory<Real>& memory_;
  const Storage* const queries_;
  const Storage* const docs_;
  const Real* const query_inverse_norms_;
  const Real* const doc_inverse_norms_;
  TileRows rows_;
  ForwardTileState<Real> states_[kTileRows];
  CandidatePanel<Real> panel_;
};

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
