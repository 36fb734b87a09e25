// The documents' gradients for samplers whose candidates lie side by side: a tile of
// neighbouring places goes through the band of queries in front of them.
//
// It is rows/gradient.h's pass with a document in each lane.
#pragma once

#include <cstdint>

#include "cpu/candidates/place_order.h"
#include "cpu/rows/gradient.h"
#include "cpu/tiles/tile.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// The query rows of one panel.
template <typename Real>
struct QueryPanel {
  int64_t indices[kTilePanelRows];
  Real nan_addend[kTilePanelRows];  // see pack_row
  PanelInputs<Real, kTilePanelRows> inputs;
};

// What is known of a tile's documents, side by side.
template <typename Real>
struct GradientRows {
  alignas(kVectorBytes) Real nan_addend[kTileRows] = {};
  alignas(kVectorBytes) Real log_q[kTileRows] = {};
  alignas(kVectorBytes) Real projection[kTileRows] = {};  // H . d
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
                                             const TileMemory<Real>& memory,
                                             int64_t num_negatives)
      : params_(params),
        arguments_(arguments),
        rows_of_query_(rows_of_query),
        order_(order),
        shape_(shape),
        memory_(memory),
        num_negatives_(num_negatives),
        has_ids_(has_ids(params)),
        queries_(static_cast<const Storage*>(params.query)),
        docs_(static_cast<const Storage*>(params.doc)) {}

  // The documents at places first..last-1, which meet the `num_negatives` rows that may
  // have drawn them.
  NEGATIVE_COSINE_INLINE_MEMBER void run(int64_t first, int64_t last) {
    if (!has_queries(first - num_negatives_, last)) return clear_docs(first, last);
    load_docs(first, last);
    finish_loading(memory_, rows_.count);
    const Band band{params_.num_candidates - num_negatives_, num_negatives_};
    meet_band(memory_, rows_, band, first, /*accumulates=*/true, this);
    store_docs();
  }

  // --- The steps of meet_band --------------------------------------------------------

  // In the documents' own order the queries come first.
  NEGATIVE_COSINE_INLINE_MEMBER int64_t places_to_skip(int64_t place) const {
    if (order_.ring != nullptr) return 0;
    const int64_t doc = order_.index_at(place);
    return doc < params_.batch_size ? 0 : params_.num_candidates - doc;
  }

  NEGATIVE_COSINE_INLINE_MEMBER bool pack(int64_t place, int column) {
    const int64_t row = order_.index_at(place);
    const int64_t ahead = order_.index_at(place + kPackedAhead);
    if (ahead < params_.batch_size) prefetch_row(shape_, queries_ + ahead * shape_.dim);
    if (row >= params_.batch_size) return false;
    const SavedRow<Real>& saved = rows_of_query_.saved[row];
    if (saved.candidate_coefficient == 0) return false;
    panel_.indices[column] = row;
    panel_.nan_addend[column] = pack_row(shape_, queries_ + row * shape_.dim,
                                         saved.query_inverse_norm, memory_.met(column));
    has_nan_ |= panel_.nan_addend[column] != 0;
    set_inputs(saved, column, &panel_.inputs);
    panel_.inputs.log_q[column] = log_q_at<Real>(params_, row);
    return true;
  }

  NEGATIVE_COSINE_INLINE_MEMBER void weigh(int row, const Columns& columns,
                                           const PanelColumns& panel, bool meet_all,
                                           Real* products) {
    if (meet_all && !has_ids_ && !has_nan_) {
      compute_weights</*kPlain=*/true>(row, columns, panel, products);
    } else {
      compute_weights</*kPlain=*/false>(row, columns, panel, products);
    }
  }

 private:
  // Whether a query is at one of the places first..last-1, which may start in front of
  // the first place.
  NEGATIVE_COSINE_INLINE_MEMBER bool has_queries(int64_t first, int64_t last) const {
    for (int64_t place = first; place < last;) {
      const int64_t inside = place < 0 ? place + params_.num_candidates : place;
      if (order_.index_at(inside) < params_.batch_size) return true;
      const int64_t skipped = places_to_skip(inside);
      place += skipped > 0 ? skipped : 1;
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
      const int at = rows_.count;
      rows_.add(doc, place - first);
      state_.nan_addend[at] = pack_row(shape_, docs_ + doc * shape_.dim,
                                       inverse_norms[doc], memory_.unit(at));
      has_nan_ |= state_.nan_addend[at] != 0;
      state_.log_q[at] = log_q_at<Real>(params_, doc);
      if (is_excluded(state_.log_q[at])) rows_.leave_out(at);
    }
  }

  // Products to weights a_i p_ij, and their sums with the cosines: a panel's first, so
  // that long sums keep their digits. `kPlain` says that all pairs are kept, and no row
  // has NaN.
  template <bool kPlain>
  NEGATIVE_COSINE_INLINE_MEMBER void compute_weights(int row, const Columns& columns,
                                                     const PanelColumns& panel,
                                                     Real* products) {
    const PanelInputs<Real, kTilePanelRows>& inputs = panel_.inputs;
    const auto scale = broadcast(logit_scale_of<Real>(params_));
    const auto margin = broadcast(static_cast<Real>(params_.margin));
    const bool has_log_q = params_.doc_log_q != nullptr;
    const Vector<Real> nan_addend = load(state_.nan_addend + row);
    const Vector<Real> log_q = load(state_.log_q + row);
    Vector<Real> projection = {};
    for (int c = columns.begin; c < columns.end; ++c) {
      Real* product = products + c * kTileRows;
      Vector<Real> cosines = load(product);
      if (!kPlain) cosines += panel_.nan_addend[c] + nan_addend;
      Vector<Real> logits =
          relative_logit(scale, margin, cosines, broadcast(inputs.positive_cosines[c]));
      if (has_log_q) {
        logits = corrected_logit(logits, log_q, broadcast(inputs.log_q[c]));
      }
      Vector<Real> weights =
          exponential(logits - inputs.shifts[c]) * inputs.coefficients[c];
      if (!kPlain) {
        const Mask<Real> kept = kept_lanes(
            rows_, row, num_negatives_, panel.positions[c], has_ids_,
            [&](int64_t doc) { return is_dropped(params_, panel_.indices[c], doc); });
        weights = kept ? weights : Vector<Real>{};
        cosines = kept ? cosines : Vector<Real>{};
      }
      projection = multiply_add(weights, cosines, projection);
      store(product, weights);
    }
    store(state_.projection + row, load(state_.projection + row) + projection);
  }

  NEGATIVE_COSINE_INLINE_MEMBER void store_docs() const {
    for (int at = 0; at < rows_.count; ++at) {
      prefetch_results(at + kFinishedAhead);
      store_doc_gradient<Storage>(params_, arguments_, rows_of_query_, shape_,
                                  memory_.unit(at), memory_.sum(at),
                                  state_.projection[at], rows_.indices[at]);
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
  const int64_t num_negatives_;
  const bool has_ids_;
  bool has_nan_ = false;  // in a row that has been packed
  const Storage* const queries_;
  const Storage* const docs_;
  TileRows<Real> rows_;
  GradientRows<Real> state_;
  QueryPanel<Real> panel_;
};

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
