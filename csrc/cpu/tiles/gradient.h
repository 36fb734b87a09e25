// The documents' gradients of one tile: gradient_rows.h's, with the cosines and sums of
// the rows that drew them as products of a tile with the panels of its band.
#pragma once

#include <cstdint>

#include "cpu/candidates/place_order.h"
#include "cpu/rows/gradient.h"
#include "cpu/tiles/tile.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// The query rows of one panel; zeros where a place holds none that takes part.
template <typename Real>
struct QueryPanel {
  int64_t indices[kPanelRows];
  Real is_query[kPanelRows];
  Real poison[kPanelRows];  // see pack_row
  PanelInputs<Real> facts;
};

// Products to weights a_i p_ij, and their sum with the cosines.
template <typename Real>
NEGATIVE_COSINE_INLINE void weigh_queries(const LossParams& params, int64_t doc,
                                          Real doc_poison, const Columns& columns,
                                          const Columns& lanes,
                                          const QueryPanel<Real>& panel,
                                          Vector<Real>* cosine_sum,
                                          Real (&products)[kPanelRows]) {
  alignas(kVectorBytes) Real kept[kPanelRows];
  const auto dropped = [&](int c) {
    return panel.is_query[c] != 0 && is_dropped(params, panel.indices[c], doc);
  };
  mark_kept(params, columns, lanes, dropped, kept);
  const auto scale = broadcast(logit_scale_of<Real>(params));
  const auto margin = broadcast(static_cast<Real>(params.margin));
  const auto log_q = broadcast(log_q_at<Real>(params, doc));
  for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
    const auto meets =
        (load(kept + c) * load(panel.is_query + c) != 0) & (log_q != kInfinity<Real>);
    const Vector<Real> cosines =
        load(products + c) + (load(panel.poison + c) + doc_poison);
    const Vector<Real> logits =
        relative_logit(scale, margin, cosines, load(panel.facts.positive_cosines + c),
                       log_q, load(panel.facts.log_q + c)) -
        load(panel.facts.shifts + c);
    const Vector<Real> weights =
        meets ? exponential(logits) * load(panel.facts.coefficients + c)
              : Vector<Real>{};
    *cosine_sum = multiply_add(weights, meets ? cosines : Vector<Real>{}, *cosine_sum);
    store(products + c, weights);
  }
}

template <typename Storage>
NEGATIVE_COSINE_INLINE void doc_gradient_tile(
    const LossParams& params, const GradientArguments& arguments,
    const RowsOfQuery<ComputeType<Storage>>& rows_of_query, const PlaceOrder& order,
    int64_t first_place, int64_t last_place,
    const RowShape<ComputeType<Storage>>& shape,
    const TileMemory<ComputeType<Storage>>& memory, bool met_candidates) {
  using Real = ComputeType<Storage>;
  const auto* queries = static_cast<const Storage*>(params.query);
  const auto* docs = static_cast<const Storage*>(params.doc);
  const auto* doc_inverse_norms = static_cast<const Real*>(arguments.doc_inverse_norm);
  const RowFacts<Real>* facts = rows_of_query.saved;
  TileRows tile;
  Real poison[kTileRows];
  Vector<Real> cosine_sums[kTileRows] = {};
  memory.clear();
  for (int64_t place = first_place; place < last_place; ++place) {
    const int64_t doc = order.index_at(place);
    prefetch_row(shape, docs + order.index_at(place + kPackedAhead) * shape.dim);
    const int at = tile.count++;
    tile.indices[at] = doc;
    tile.band_starts[at] = place - first_place;
    poison[at] = pack_row(shape, docs + doc * shape.dim, doc_inverse_norms[doc],
                          memory.unit(at));
  }

  QueryPanel<Real> panel;
  const auto start_panel = [&] { panel = QueryPanel<Real>{}; };
  const auto pack = [&](int64_t place, int column) {
    const int64_t row = order.index_at(place);
    const int64_t ahead = order.index_at(place + kPackedAhead);
    if (ahead < params.batch_size) prefetch_row(shape, queries + ahead * shape.dim);
    if (row >= params.batch_size || facts[row].candidate_coefficient == 0) {
      __builtin_memset(memory.met(column), 0,
                       sizeof(Real) * static_cast<size_t>(memory.stride));
      return false;
    }
    panel.indices[column] = row;
    panel.is_query[column] = 1;
    panel.poison[column] = pack_row(shape, queries + row * shape.dim,
                                    facts[row].query_inverse_norm, memory.met(column));
    set_facts(facts[row], column, &panel.facts);
    panel.facts.log_q[column] = log_q_at<Real>(params, row);
    return true;
  };
  const auto weigh = [&](int row, const Columns& columns, const Columns& lanes,
                         Real(&products)[kPanelRows]) {
    weigh_queries(params, tile.indices[row], poison[row], columns, lanes, panel,
                  &cosine_sums[row], products);
  };
  const int64_t drawn = met_candidates ? params.num_negatives : 0;
  const Band band{params.num_candidates - drawn, drawn};
  meet_band(memory, tile, band, first_place, true, start_panel, pack, weigh);

  for (int at = 0; at < tile.count; ++at) {
    if (at + kFinishedAhead < tile.count) {
      const int64_t ahead = tile.indices[at + kFinishedAhead];
      prefetch_row(shape, docs + ahead * shape.dim);
      prefetch_row(shape, static_cast<const Storage*>(arguments.doc_gradient) +
                              ahead * shape.dim);
      if (ahead < params.batch_size) prefetch_row(shape, queries + ahead * shape.dim);
    }
    finish_doc_gradient<Storage>(params, arguments, rows_of_query, shape,
                                 memory.unit(at), memory.sum(at),
                                 sum_of_lanes(cosine_sums[at]), tile.indices[at]);
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
