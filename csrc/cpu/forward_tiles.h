// The forward pass of the rows of one tile: forward_rows.h's, with the candidates'
// cosines and sums as products of a tile with the blocks of its band.
#pragma once

#include <cstdint>

#include "cpu/forward_rows.h"
#include "cpu/tiles.h"

namespace negative_cosine {
namespace NEGATIVE_COSINE_ISA {

// The candidates of one block.
template <typename Real>
struct CandidateBlock {
  int64_t indices[kBlock];
  Real poison[kBlock];  // see pack_row
  Real log_q[kBlock];
};

// What is known of one row of a tile while it meets its candidates.
template <typename Real>
struct TileRowState {
  OnlineSoftmax<Real> softmax;
  Real query_inverse_norm;
  Real poison;
  Real positive_cosine;
  Real positive_log_q;
  int32_t kept = 0;
  int32_t rank = 0;
};

template <typename Storage>
NEGATIVE_COSINE_INLINE void start_tile_row(const LossParams& params,
                                           const ForwardOutputs& outputs,
                                           const RowShape<ComputeType<Storage>>& shape,
                                           int64_t row, ComputeType<Storage>* unit,
                                           TileRowState<ComputeType<Storage>>* state) {
  using Real = ComputeType<Storage>;
  const auto* query = static_cast<const Storage*>(params.query) + row * shape.dim;
  const auto* doc = static_cast<const Storage*>(params.doc) + row * shape.dim;
  state->poison = pack_row(shape, query, state->query_inverse_norm, unit);
  Real product;
  dot_products<1>(shape, unit, &doc, &product);
  state->positive_cosine = cosine_of(
      product + state->poison, static_cast<const Real*>(outputs.doc_inverse_norm)[row]);
  state->positive_log_q = log_q_at<Real>(params, row);
}

// Products to weights, and the row's sums of them.
template <typename Real>
NEGATIVE_COSINE_INLINE void weigh_candidates(
    const LossParams& params, int64_t row, const Columns& columns,
    const CandidateBlock<Real>& block, bool is_first_block, const RowShape<Real>& shape,
    TileRowState<Real>* state, Real* sums, Real (&products)[kBlock]) {
  Real kept[kBlock];
  mark_kept(
      params, columns, [&](int c) { return is_dropped(params, row, block.indices[c]); },
      kept);
  const Real scale = logit_scale_of<Real>(params);
  const Real margin = static_cast<Real>(params.margin);
  Real logits[kBlock];
  for (int c = 0; c < kBlock; ++c) {
    const Real cosine = products[c] + (block.poison[c] + state->poison);
    const Real logit = relative_logit(scale, margin, cosine, state->positive_cosine,
                                      block.log_q[c], state->positive_log_q);
    products[c] = kept[c] != 0 ? cosine : Real(0);
    logits[c] = kept[c] != 0 ? logit : -infinity<Real>();
  }
  for (int c = 0; c < kBlock; ++c) state->kept += kept[c] != 0;
  state->rank += count_above_positive(logits);
  raise_shift(largest_of(logits), is_first_block, shape, &state->softmax, sums);
  for (int c = 0; c < kBlock; c += kLanes<Real>) {
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
  const auto* docs = static_cast<const Storage*>(params.doc);
  const auto* doc_inverse_norms = static_cast<const Real*>(outputs.doc_inverse_norm);
  TileRows rows;
  TileRowState<Real> states[kTileRows];
  memory.clear();
  for (int64_t place = first_place; place < last_place; ++place) {
    const int64_t row = order.index_at(place);
    if (row >= params.batch_size) continue;
    const int at = rows.count++;
    rows.indices[at] = row;
    rows.band_starts[at] = place - first_place;
    states[at].query_inverse_norm = static_cast<const Real*>(query_inverse_norms)[row];
    start_tile_row<Storage>(params, outputs, shape, row, memory.unit(at), &states[at]);
  }

  CandidateBlock<Real> block;
  const auto start_block = [&] { block = CandidateBlock<Real>{}; };
  const auto pack = [&](int64_t place, int column) {
    const int64_t doc = order.index_at(place);
    prefetch_row(shape, docs + order.index_at(place + kPackedAhead) * shape.dim);
    block.indices[column] = doc;
    block.poison[column] = pack_row(shape, docs + doc * shape.dim,
                                    doc_inverse_norms[doc], memory.met(column));
    block.log_q[column] = log_q_at<Real>(params, doc);
    return true;
  };
  const auto weigh = [&](int row, const Columns& columns, Real(&products)[kBlock]) {
    weigh_candidates(params, rows.indices[row], columns, block, states[row].kept == 0,
                     shape, &states[row], memory.sum(row), products);
  };
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  const bool sums_rows = outputs.query_direction != nullptr && !over_batch;
  const Band band{1, meets_candidates ? params.num_negatives : 0};
  meet_band(memory, rows, band, first_place, sums_rows, start_block, pack, weigh);

  for (int at = 0; at < rows.count; ++at) {
    const TileRowState<Real>& state = states[at];
    finish_forward_row<Storage>(params, outputs, shape, memory.unit(at), memory.sum(at),
                                state.softmax, RowCounts{state.kept, state.rank},
                                state.query_inverse_norm, state.positive_cosine,
                                rows.indices[at]);
  }
}

}  // namespace NEGATIVE_COSINE_ISA
}  // namespace negative_cosine
