// Products of a tile of rows with the panels of rows they meet, for the samplers whose
// candidates lie side by side: `ring`, and `all`, which is the ring of all documents in
// their own order with K = C - 1.
//
// A tile holds the rows of kTileRows neighbouring places, normalised. The rows at place
// x meet K consecutive places, so a tile meets a band, which is packed panel by panel:
//
//   products[r][c] = tile[r] . panel[c],    sums[r] += sum over c of weights[r][c]
//   panel[c].
//
// Both are done by groups of rows whose results stay in registers, as in a matrix
// product. Between the two the passes turn products into weights.
#pragma once

#include <cstdint>

#include "cpu/rows/panel.h"
#include "cpu/rows/rows.h"
#include "cpu/tiles/scratch_size.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// A group's 4 * kGroup results, 4 or kGroup operands and one more fill the registers.
constexpr int kGroup = kVectorBytes == 64 ? 6 : 3;
constexpr int kUnit = 4;  // rows of a panel, or vectors of columns, at a time

static_assert(kTileRows % kGroup == 0 && kPanelRows % kUnit == 0, "no ragged groups");

// Rows on a ring are asked for before they are packed, and what a row's results are
// made of and written to, before it is finished: nothing else would fetch them.
constexpr int64_t kPackedAhead = 8;
constexpr int kFinishedAhead = 4;

// One thread's tile and panel, and what is summed beside them.
template <typename Real>
struct TileMemory {
  TileMemory(ThreadScratch scratch, const RowShape<Real>& shape)
      : stride(shape.padded()),
        units(static_cast<Real*>(scratch)),
        sums(units + kTileRows * stride),
        panel(sums + kTileRows * stride) {}

  void clear() const {
    const auto size = static_cast<size_t>(2 * kTileRows * stride);
    __builtin_memset(units, 0, sizeof(Real) * size);
  }

  Real* unit(int64_t row) const { return units + row * stride; }
  Real* sum(int64_t row) const { return sums + row * stride; }
  Real* met(int64_t column) const { return panel + column * stride; }

  const int64_t stride;
  Real* const units;
  Real* const sums;
  Real* const panel;  // the rows that are met
};

// The rows of a tile: which they are, and where in the tile's band each one's starts.
struct TileRows {
  int count = 0;
  int64_t indices[kTileRows];
  int64_t band_starts[kTileRows];  // ascending
};

// The K places that a row meets start `offset` places after its own.
struct Band {
  int64_t offset;
  int64_t length;
};

// Packs a normalised row and returns what every product with it has to be raised by: 0,
// or NaN for a row with infinite or NaN elements. Such a row is packed as zeros, so
// that a weight of zero keeps it out of the sums.
template <typename Storage>
NEGATIVE_COSINE_INLINE ComputeType<Storage> pack_row(
    const RowShape<ComputeType<Storage>>& shape, const Storage* row,
    ComputeType<Storage> inverse_norm, ComputeType<Storage>* unit) {
  if (inverse_norm == inverse_norm) {
    load_unit_row(shape, row, inverse_norm, unit);
    return 0;
  }
  __builtin_memset(unit, 0, sizeof(*unit) * static_cast<size_t>(shape.padded()));
  return inverse_norm;
}

template <typename Real>
NEGATIVE_COSINE_INLINE void clear_row(const TileMemory<Real>& memory, Real* row) {
  __builtin_memset(row, 0, sizeof(Real) * static_cast<size_t>(memory.stride));
}

// products[..][column..]: kGroup rows of the tile times kUnit of the panel.
template <typename Real>
NEGATIVE_COSINE_INLINE void multiply(const TileMemory<Real>& memory, int64_t row,
                                     int64_t column, Real (*products)[kPanelRows]) {
  Vector<Real> sums[kGroup][kUnit] = {};
  const Real* left = memory.unit(row);
  const Real* right = memory.met(column);
  for (int64_t v = 0; v < memory.stride; v += kLanes<Real>) {
    Vector<Real> x[kGroup];
    for (int r = 0; r < kGroup; ++r) x[r] = load(left + r * memory.stride + v);
    for (int c = 0; c < kUnit; ++c) {
      const Vector<Real> y = load(right + c * memory.stride + v);
      for (int r = 0; r < kGroup; ++r) sums[r][c] = multiply_add(x[r], y, sums[r][c]);
    }
  }
  for (int r = 0; r < kGroup; ++r) sums_of_lanes(sums[r], products[r] + column);
}

// The product of two packed rows, with the bits that multiply gives it.
template <typename Real>
NEGATIVE_COSINE_INLINE Real product_of_units(const TileMemory<Real>& memory,
                                             const Real* left, const Real* right) {
  Vector<Real> sums[kUnit] = {};
  for (int64_t v = 0; v < memory.stride; v += kLanes<Real>) {
    sums[0] = multiply_add(load(left + v), load(right + v), sums[0]);
  }
  Real products[kUnit];
  sums_of_lanes(sums, products);
  return products[0];
}

template <int kVectors, typename Real>
NEGATIVE_COSINE_INLINE void accumulate_columns(const TileMemory<Real>& memory,
                                               int64_t row, int64_t offset, int begin,
                                               int end,
                                               const Real (*weights)[kPanelRows]) {
  Real* to = memory.sum(row) + offset;
  Vector<Real> sums[kGroup][kVectors];
  for (int r = 0; r < kGroup; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = load(to + r * memory.stride + v * kLanes<Real>);
    }
  }
  for (int c = begin; c < end; ++c) {
    Vector<Real> weight[kGroup];
    for (int r = 0; r < kGroup; ++r) weight[r] = broadcast(weights[r][c]);
    const Real* met = memory.met(c) + offset;
    for (int v = 0; v < kVectors; ++v) {
      const Vector<Real> y = load(met + v * kLanes<Real>);
      for (int r = 0; r < kGroup; ++r) {
        sums[r][v] = multiply_add(weight[r], y, sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kGroup; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      store(to + r * memory.stride + v * kLanes<Real>, sums[r][v]);
    }
  }
}

// sums[row..] += weights * panel, for the panel's rows begin..end-1.
template <typename Real>
NEGATIVE_COSINE_INLINE void accumulate(const TileMemory<Real>& memory, int64_t row,
                                       int begin, int end,
                                       const Real (*weights)[kPanelRows]) {
  int64_t offset = 0;
  for (; offset + kUnit * kLanes<Real> <= memory.stride;
       offset += kUnit * kLanes<Real>) {
    accumulate_columns<kUnit>(memory, row, offset, begin, end, weights);
  }
  for (; offset < memory.stride; offset += kLanes<Real>) {
    accumulate_columns<1>(memory, row, offset, begin, end, weights);
  }
}

// Which of a panel's columns belong to a row's band.
struct Columns {
  int begin;
  int end;
};

NEGATIVE_COSINE_INLINE Columns columns_of(int64_t first, int64_t last,
                                          int64_t panel_start) {
  const int64_t begin = first - panel_start;
  const int64_t end = last - panel_start;
  return Columns{static_cast<int>(begin < 0            ? 0
                                  : begin < kPanelRows ? begin
                                                       : kPanelRows),
                 static_cast<int>(end < 0            ? 0
                                  : end < kPanelRows ? end
                                                     : kPanelRows)};
}

// The columns whose vectors hold the given ones.
template <typename Real>
NEGATIVE_COSINE_INLINE Columns whole_vectors(const Columns& columns) {
  constexpr int kWidth = kLanes<Real>;
  return Columns{columns.begin / kWidth * kWidth,
                 (columns.end + kWidth - 1) / kWidth * kWidth};
}

// Packs the rows that a band has from `first_place` on, as many as `count` and a panel
// hold. Returns whether any of them is to be met.
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE bool pack_panel(const TileMemory<Real>& memory,
                                       int64_t first_place, int64_t count, Pass* pass) {
  pass->clear_panel();
  bool is_met = false;
  for (int c = 0; c < kPanelRows; ++c) {
    if (c < count) {
      is_met |= pass->pack(first_place + c, c);
    } else {
      clear_row(memory, memory.met(c));
    }
  }
  return is_met;
}

// Takes a group of the tile's rows through a panel that starts at column `start` of the
// band.
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE void meet_panel(const TileMemory<Real>& memory,
                                       const TileRows& rows, int group,
                                       int64_t band_length, int64_t start,
                                       bool accumulates, Pass* pass) {
  const int last = group + kGroup <= rows.count ? group + kGroup : rows.count;
  const Columns all = columns_of(rows.band_starts[group],
                                 rows.band_starts[last - 1] + band_length, start);
  if (all.begin >= all.end) return;
  alignas(kVectorBytes) Real products[kGroup][kPanelRows];
  for (int c = all.begin / kUnit * kUnit; c < all.end; c += kUnit) {
    multiply(memory, group, c, products);
  }
  const Columns lanes = whole_vectors<Real>(all);
  for (int row = group; row < last; ++row) {
    const int64_t first = rows.band_starts[row];
    pass->weigh(row, columns_of(first, first + band_length, start), lanes,
                products[row - group]);
  }
  if (accumulates) accumulate(memory, group, all.begin, all.end, products);
}

// Takes a tile's rows through their band, panel by panel: pack, multiply, weigh,
// accumulate. The pass says what is packed, and what its products weigh:
//
//   clear_panel()           before a panel is packed
//   pack(place, column)     packs the row at a place as the panel's column and returns
//                           whether it is to be met
//   weigh(row, columns, lanes, products)
//                           turns a row's products into weights, in the columns
//                           `lanes`: those of the group's rows, by whole vectors
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE void meet_band(const TileMemory<Real>& memory,
                                      const TileRows& rows, const Band& band,
                                      int64_t first_place, bool accumulates,
                                      Pass* pass) {
  if (rows.count == 0 || band.length <= 0) return;
  const int64_t width = rows.band_starts[rows.count - 1] + band.length;
  for (int64_t start = 0; start < width; start += kPanelRows) {
    const int64_t place = first_place + band.offset + start;
    if (!pack_panel(memory, place, width - start, pass)) continue;
    for (int group = 0; group < rows.count; group += kGroup) {
      meet_panel(memory, rows, group, band.length, start, accumulates, pass);
    }
  }
}

// A step of height 1 at kPanelRows, to be read anywhere around it.
template <typename Real>
struct Step {
  constexpr Step() : values() {
    for (int c = kPanelRows; c < 2 * kPanelRows; ++c) values[c] = 1;
  }
  Real values[2 * kPanelRows];
};

template <typename Real>
constexpr Step<Real> kStep;

// 1 in a row's columns that are not dropped, 0 in the other columns of `lanes`.
template <typename Real, typename IsDropped>
NEGATIVE_COSINE_INLINE void mark_kept(const LossParams& params, const Columns& columns,
                                      const Columns& lanes, const IsDropped& dropped,
                                      Real (&kept)[kPanelRows]) {
  const Real* begins = kStep<Real>.values + kPanelRows - columns.begin;
  const Real* ends = kStep<Real>.values + kPanelRows - columns.end;
  for (int c = lanes.begin; c < lanes.end; c += kLanes<Real>) {
    store(kept + c, load(begins + c) - load(ends + c));
  }
  if (params.doc_ids == nullptr && params.query_ids == nullptr) return;
  for (int c = columns.begin; c < columns.end; ++c) {
    if (dropped(c)) kept[c] = 0;
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
