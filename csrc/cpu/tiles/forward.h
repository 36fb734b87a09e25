// The forward pass for samplers whose candidates lie side by side: a tile of
// neighbouring places goes through the band of documents behind them.
//
// It is rows/forward.h's pass with a row in each lane: load the rows, meet the band by
// panels, store.
#pragma once

#include <cstdint>

#include "cpu/candidates/place_order.h"
#include "cpu/rows/forward.h"
#include "cpu/tiles/tile.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// The candidates of one panel.
template <typename Real>
struct CandidatePanel {
  int64_t indices[kTilePanelRows];
  Real nan_addend[kTilePanelRows];  // see pack_row
  Real log_q[kTilePanelRows];
};

// What is known of a tile's rows while they meet their candidates: one array each, so
// that neighbouring rows are the lanes of a vector.
template <typename Real>
struct ForwardRows {
  alignas(kVectorBytes) Real nan_addend[kTileRows] = {};
  alignas(kVectorBytes) Real positive_cosine[kTileRows] = {};
  alignas(kVectorBytes) Real positive_log_q[kTileRows] = {};
  // CandidateSums
  alignas(kVectorBytes) Real shift[kTileRows];
  alignas(kVectorBytes) Real weight_sum[kTileRows] = {};
  alignas(kVectorBytes) Real cosine_sum[kTileRows] = {};
  // RowCounts
  alignas(kVectorBytes) Mask<Real> kept[kTileRows / kLanes<Real>] = {};
  alignas(kVectorBytes) Mask<Real> rank[kTileRows / kLanes<Real>] = {};
  // Whether a vector of rows has met a panel: its sums are not zero.
  bool has_met[kTileRows / kLanes<Real>] = {};
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
                                            const TileMemory<Real>& memory,
                                            int64_t num_negatives)
      : params_(params),
        outputs_(outputs),
        order_(order),
        shape_(shape),
        memory_(memory),
        num_negatives_(num_negatives),
        accumulates_(outputs.query_direction != nullptr &&
                     params.normalize_over != NormalizeOver::kBatch),
        has_ids_(has_ids(params)),
        queries_(static_cast<const Storage*>(params.query)),
        docs_(static_cast<const Storage*>(params.doc)),
        query_inverse_norms_(static_cast<const Real*>(query_inverse_norms)),
        doc_inverse_norms_(static_cast<const Real*>(outputs.doc_inverse_norm)) {
    for (Real& shift : state_.shift) shift = first_shift<Real>(params);
  }

  // The rows at places first..last-1, which meet `num_negatives` candidates each.
  NEGATIVE_COSINE_INLINE_MEMBER void run(int64_t first, int64_t last) {
    load_rows(first, last);
    if (rows_.count == 0) return;
    finish_loading(memory_, rows_.count);
    load_positives();
    meet_band(memory_, rows_, Band{1, num_negatives_}, first, accumulates_, this);
    store_rows();
  }

  // --- The steps of meet_band --------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER static int64_t places_to_skip(int64_t) { return 0; }

  NEGATIVE_COSINE_INLINE_MEMBER bool pack(int64_t place, int column) {
    const int64_t doc = order_.index_at(place);
    prefetch_row(shape_, docs_ + order_.index_at(place + kPackedAhead) * shape_.dim);
    const Real log_q = log_q_at<Real>(params_, doc);
    if (is_excluded(log_q)) return false;
    panel_.indices[column] = doc;
    panel_.nan_addend[column] = pack_row(shape_, docs_ + doc * shape_.dim,
                                         doc_inverse_norms_[doc], memory_.met(column));
    has_nan_ |= panel_.nan_addend[column] != 0;
    panel_.log_q[column] = log_q;
    return true;
  }

  NEGATIVE_COSINE_INLINE_MEMBER void weigh(int row, const Columns& columns,
                                           const PanelColumns& panel, bool meet_all,
                                           Real* products) {
    const Vector<Real> largest =
        meet_all && !has_ids_ && !has_nan_
            ? compute_logits</*kPlain=*/true>(row, columns, panel, products)
            : compute_logits</*kPlain=*/false>(row, columns, panel, products);
    raise_shifts(row, largest);
    exponentiate(row, columns, products);
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
      const int at = rows_.count;
      rows_.add(row, place - first);
      state_.nan_addend[at] = pack_row(shape_, queries_ + row * shape_.dim,
                                       query_inverse_norms_[row], memory_.unit(at));
      has_nan_ |= state_.nan_addend[at] != 0;
      state_.positive_log_q[at] = log_q_at<Real>(params_, row);
    }
  }

  // The positives' cosines are computed as the candidates', so that equal rows tie.
  NEGATIVE_COSINE_INLINE_MEMBER void load_positives() {
    constexpr int kColumns =
        kLanes<Real> < kBlockColumns ? kLanes<Real> : kBlockColumns;
    alignas(kVectorBytes) Real products[kColumns][kTileRows];
    for (int row = 0; row < rows_.count; row += kColumns) {
      const int row_of_vector = row / kLanes<Real> * kLanes<Real>;
      Real nan_addend[kColumns] = {};
      for (int c = 0; c < kColumns; ++c) {
        const int64_t doc = rows_.indices[row + c < rows_.count ? row + c : row];
        nan_addend[c] = pack_row(shape_, docs_ + doc * shape_.dim,
                                 doc_inverse_norms_[doc], memory_.met(c));
      }
      multiply_block<1, kColumns>(ProductInputs<Real>{memory_.lanes + row_of_vector,
                                                      memory_.panel, memory_.stride},
                                  memory_.elements, products[0]);
      for (int c = 0; c < kColumns; ++c) {
        state_.positive_cosine[row + c] = products[c][row + c - row_of_vector] +
                                          (nan_addend[c] + state_.nan_addend[row + c]);
      }
    }
  }

  // --- Weigh -------------------------------------------------------------------------

  // Products to cosines and logits; returns each row's largest logit. `kPlain` says
  // that all pairs are kept, and no row has NaN.
  template <bool kPlain>
  NEGATIVE_COSINE_INLINE_MEMBER Vector<Real> compute_logits(int row,
                                                            const Columns& columns,
                                                            const PanelColumns& panel,
                                                            Real* products) {
    const auto scale = broadcast(logit_scale_of<Real>(params_));
    const auto margin = broadcast(static_cast<Real>(params_.margin));
    const bool has_log_q = params_.doc_log_q != nullptr;
    const bool counts = outputs_.num_kept != nullptr;
    const Vector<Real> nan_addend = load(state_.nan_addend + row);
    const Vector<Real> positive_cosine = load(state_.positive_cosine + row);
    const Vector<Real> positive_log_q = load(state_.positive_log_q + row);
    Vector<Real> largest = broadcast(-kInfinity<Real>);
    for (int c = columns.begin; c < columns.end; ++c) {
      Real* product = products + c * kTileRows;
      Vector<Real> cosines = load(product);
      if (!kPlain) cosines += panel_.nan_addend[c] + nan_addend;
      Vector<Real> logits = relative_logit(scale, margin, cosines, positive_cosine);
      if (has_log_q) {
        logits = corrected_logit(logits, broadcast(panel_.log_q[c]), positive_log_q);
      }
      Mask<Real> kept = ~Mask<Real>{};
      if (!kPlain) {
        kept = kept_lanes(rows_, row, num_negatives_, panel.positions[c], has_ids_,
                          [&](int64_t query) {
                            return is_dropped(params_, query, panel_.indices[c]);
                          });
        cosines = kept ? cosines : Vector<Real>{};
        logits = kept ? logits : -kInfinity<Real>;
      }
      store(product, cosines);
      store(logits_[c], logits);
      largest = largest < logits ? logits : largest;
      if (counts) {
        state_.kept[row / kLanes<Real>] -= kept;
        state_.rank[row / kLanes<Real>] -= ~(logits <= 0);  // as is_above_positive
      }
    }
    return largest;
  }

  // As raise_shift, for a vector of rows.
  NEGATIVE_COSINE_INLINE_MEMBER void raise_shifts(int row, Vector<Real> largest) {
    bool* const has_met = &state_.has_met[row / kLanes<Real>];
    const Vector<Real> previous = load(state_.shift + row);
    const Mask<Real> rises = largest > previous;
    if (is_any<Real>(rises)) {
      const Vector<Real> finite =
          largest < kLargestNumber<Real> ? largest : kLargestNumber<Real>;
      const Vector<Real> shift = rises ? finite : previous;
      store(state_.shift + row, shift);
      if (*has_met) scale_sums(row, rises, exponential(previous - shift));
    }
    *has_met = true;
  }

  // What was summed before the shifts rose, relative to the new ones.
  NEGATIVE_COSINE_INLINE_MEMBER void scale_sums(int row, Mask<Real> rises,
                                                Vector<Real> factors) {
    store(state_.weight_sum + row, load(state_.weight_sum + row) * factors);
    store(state_.cosine_sum + row, load(state_.cosine_sum + row) * factors);
    for (int lane = 0; accumulates_ && lane < kLanes<Real>; ++lane) {
      if (rises[lane] == 0) continue;
      scale_row<Real>(shape_, factors[lane], memory_.sum(row + lane));
    }
  }

  // Logits to weights, and the rows' sums of weights and cosines: a panel's first, so
  // that long sums keep their digits.
  NEGATIVE_COSINE_INLINE_MEMBER void exponentiate(int row, const Columns& columns,
                                                  Real* products) {
    const Vector<Real> shift = load(state_.shift + row);
    Vector<Real> weight_sum = {};
    Vector<Real> cosine_sum = {};
    for (int c = columns.begin; c < columns.end; ++c) {
      Real* product = products + c * kTileRows;
      const Vector<Real> weights = exponential(load(logits_[c]) - shift);
      weight_sum += weights;
      cosine_sum = multiply_add(weights, load(product), cosine_sum);
      store(product, weights);
    }
    store(state_.weight_sum + row, load(state_.weight_sum + row) + weight_sum);
    store(state_.cosine_sum + row, load(state_.cosine_sum + row) + cosine_sum);
  }

  // --- Store -------------------------------------------------------------------------

  NEGATIVE_COSINE_INLINE_MEMBER void store_rows() const {
    for (int at = 0; at < rows_.count; ++at) {
      prefetch_results(at + kFinishedAhead);
      const int vector = at / kLanes<Real>;
      const int lane = at % kLanes<Real>;
      const CandidateSums<Real> sums{state_.shift[at], state_.weight_sum[at],
                                     state_.cosine_sum[at]};
      const RowCounts counts{static_cast<int32_t>(state_.kept[vector][lane]),
                             static_cast<int32_t>(state_.rank[vector][lane])};
      store_row_results<Storage>(params_, outputs_, shape_, memory_.unit(at),
                                 memory_.sum(at), sums, counts,
                                 query_inverse_norms_[rows_.indices[at]],
                                 state_.positive_cosine[at], rows_.indices[at]);
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
  const int64_t num_negatives_;
  const bool accumulates_;
  const bool has_ids_;
  bool has_nan_ = false;  // in a row that has been packed
  const Storage* const queries_;
  const Storage* const docs_;
  const Real* const query_inverse_norms_;
  const Real* const doc_inverse_norms_;
  TileRows<Real> rows_;
  ForwardRows<Real> state_;
  CandidatePanel<Real> panel_;
  alignas(kVectorBytes) Real logits_[kTilePanelRows][kLanes<Real>];
};

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
