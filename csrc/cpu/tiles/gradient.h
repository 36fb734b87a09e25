// The documents' gradients for samplers whose candidates lie side by side: a tile of
// neighbouring places goes through the band of queries in front of them.
//
// It is rows/gradient.h's pass, with the cosines and sums of the rows that drew a
// document as products of a tile with the panels of its band.
#pragma once

#include <cstdint>

#include "cpu/candidates/place_order.h"
#include "cpu/rows/gradient.h"
#include "cpu/tiles/tile.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// The query rows of one panel; zeros at a place without one that takes part.
template <typename Real>
struct QueryPanel {
  int64_t indices[kPanelRows];
  Real is_query[kPanelRows];
  Real nan_addend[kPanelRows];  // see pack_row
  PanelInputs<Real> inputs;
};

template <typename Storage>
class GradientTile {
 public:
  using Real = ComputeType<Storage>;

  NEGATIVE_COSINE_INLINE_MEMBER GradientTile(const LossParams& params,
                                             const GradientArguments& arguments,
                                             const RowsOfQuery<Real>& rows_of_query,
                                             const PlaceOrder& order,
                                             const RowShape<Real>& shape,
                                             const TileMemory<Real>& memory)
      : params_(params),
        arguments_(arguments),
        rows_of_query_(rows_of_query),
        order_(order),
        shape_(shape),
        memory_(memory),
        queries_(static_cast<const Storage*>(params.query)),
        docs_(static_cast<const Storage*>(params.doc)) {}

  // The documents at places first..last-1, which meet the `num_negatives` rows that may
  // have drawn them.
  NEGATIVE_COSINE_INLINE_MEMBER void run(int64_t first, int64_t last,
                                         int64_t num_negatives) {
    if (!has_queries(first - num_negatives, last)) return clear_docs(first, last);
    memory_.clear();
    load_docs(first, last);
    const Band band{params_.num_candidates - num_negatives, num_negatives};
    meet_band(memory_, rows_, band, first, /*accumulates=*/true, this);
    store_docs();
  }

  // --- The steps of meet_band --------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER void clear_panel() { panel_ = QueryPanel<Real>{}; }

  NEGATIVE_COSINE_INLINE_MEMBER bool pack(int64_t place, int column) {
    const int64_t row = order_.index_at(place);
    const int64_t ahead = order_.index_at(place + kPackedAhead);
    if (ahead < params_.batch_size) prefetch_row(shape_, queries_ + ahead * shape_.dim);
    if (row >= params_.batch_size ||
        rows_of_query_.saved[row].candidate_coefficient == 0) {
      clear_row(memory_, memory_.met(column));
      return false;
    }
    const SavedRow<Real>& saved = rows_of_query_.saved[row];
    panel_.indices[column] = row;
    panel_.is_query[column] = 1;
    panel_.nan_addend[column] = pack_row(shape_, queries_ + row * shape_.dim,
                                         saved.query_inverse_norm, memory_.met(column));
    set_inputs(saved, column, &panel_.inputs);
    panel_.inputs.log_q[column] = log_q_at<Real>(params_, row);
    return true;
  }

  // Products to weights a_i p_ij, and their sum with the cosines.
  NEGATIVE_COSINE_INLINE_MEMBER void weigh(int row, const Columns& columns,
                                           const Columns& lanes,
                                           Real (&products)[kPanelRows]) {
    const int64_t doc = rows_.indices[row];
    alignas(kVectorBytes) Real kept[kPanelRows];
    const auto dropped = [&](int c) {
      return panel_.is_query[c] != 0 && is_dropped(params_, panel_.indices[c], doc);
    };
    mark_kept(params_, columns, lanes, dropped, kept);
    const PanelInputs<Real>& inputs = panel_.inputs;
    const auto scale = broadcast(logit_scale_of<Real>(params_));
    const auto margin = broadcast(static_cast<Real>(params_.margin));
    const auto log_q = broadcast(log_q_at<Real>(params_, doc));
    for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
      const auto meets = (load(kept + c) * load(panel_.is_query + c) != 0) &
                         (log_q != kInfinity<Real>);
      const Vector<Real> cosines =
          load(products + c) + (load(panel_.nan_addend + c) + nan_addend_[row]);
      const Vector<Real> logits =
          relative_logit(scale, margin, cosines, load(inputs.positive_cosines + c),
                         log_q, load(inputs.log_q + c)) -
          load(inputs.shifts + c);
      const Vector<Real> weights =
          meets ? exponential(logits) * load(inputs.coefficients + c) : Vector<Real>{};
      projections_[row] =
          multiply_add(weights, meets ? cosines : Vector<Real>{}, projections_[row]);
      store(products + c, weights);
    }
  }

 private:
  // Whether a query is at one of the places first..last-1, which may start in front of
  // the first place.
  NEGATIVE_COSINE_INLINE_MEMBER bool has_queries(int64_t first, int64_t last) const {
    for (int64_t place = first; place < last; ++place) {
      const int64_t inside = place < 0 ? place + params_.num_candidates : place;
      if (order_.index_at(inside) < params_.batch_size) return true;
    }
    return false;
  }

  // The gradients of documents that no query meets. No row of theirs is read.
  NEGATIVE_COSINE_INLINE_MEMBER void clear_docs(int64_t first, int64_t last) const {
    for (int64_t place = first; place < last; ++place) {
      store_zeros(shape_, static_cast<Storage*>(arguments_.doc_gradient) +
                              order_.index_at(place) * shape_.dim);
    }
  }

  NEGATIVE_COSINE_INLINE_MEMBER void load_docs(int64_t first, int64_t last) {
    const auto* inverse_norms = static_cast<const Real*>(arguments_.doc_inverse_norm);
    for (int64_t place = first; place < last; ++place) {
      const int64_t doc = order_.index_at(place);
      prefetch_row(shape_, docs_ + order_.index_at(place + kPackedAhead) * shape_.dim);
      const int at = rows_.count++;
      rows_.indices[at] = doc;
      rows_.band_starts[at] = place - first;
      nan_addend_[at] = pack_row(shape_, docs_ + doc * shape_.dim, inverse_norms[doc],
                                 memory_.unit(at));
    }
  }

  NEGATIVE_COSINE_INLINE_MEMBER void store_docs() const {
    for (int at = 0; at < rows_.count; ++at) {
      prefetch_results(at + kFinishedAhead);
      store_doc_gradient<Storage>(params_, arguments_, rows_of_query_, shape_,
                                  memory_.unit(at), memory_.sum(at),
                                  sum_of_lanes(projections_[at]), rows_.indices[at]);
    }
  }

  NEGATIVE_COSINE_INLINE_MEMBER void prefetch_results(int at) const {
    if (at >= rows_.count) return;
    const int64_t doc = rows_.indices[at];
    const int64_t offset = doc * shape_.dim;
    prefetch_row(shape_, docs_ + offset);
    prefetch_row(shape_, static_cast<const Storage*>(arguments_.doc_gradient) + offset);
    if (doc < params_.batch_size) prefetch_row(shape_, queries_ + offset);
  }

  const LossParams& params_;
  const GradientArguments& arguments_;
  const RowsOfQuery<Real> rows_of_query_;
  const PlaceOrder& order_;
  const RowShape<Real>& shape_;
  const TileMemory<Real>& memory_;
  const Storage* const queries_;
  const Storage* const docs_;
  TileRows rows_;
  Real nan_addend_[kTileRows];                // see pack_row
  Vector<Real> projections_[kTileRows] = {};  // H . d, lane by lane
  QueryPanel<Real> panel_;
};

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
