// A tile of rows meets the panels of its band, for the samplers whose candidates lie
// side by side: `ring`, and `all`, which is the ring of all documents in their own
// order with K = C - 1.
//
// A tile holds the rows of neighbouring places (rows_of_tile), normalised. The row at
// place x meets K consecutive places, so a tile meets a band of them, panel by panel:
// pack, multiply, weigh, accumulate. The passes say what is packed, and turn products
// into weights, a vector of the tile's rows at a time.
#pragma once

#include <cstdint>

#include "cpu/rows/rows.h"
#include "cpu/tiles/product.h"
#include "cpu/tiles/scratch_size.h"
#include "cpu/tiles/transpose.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// Rows on a ring are asked for before they are packed, and what a row's results are
// made of and written to, before it is finished: nothing else would fetch them.
constexpr int64_t kPackedAhead = 8;
constexpr int kFinishedAhead = 4;

// One thread's tile and panel, and what is summed beside them.
template <typename Real>
struct TileMemory {
  TileMemory(ThreadScratch scratch, const RowShape<Real>& shape)
      : elements(shape.padded()),
        stride(tile_row_bytes(shape.dim, sizeof(Real)) /
               static_cast<int64_t>(sizeof(Real))),
        units(static_cast<Real*>(scratch)),
        sums(units + kTileRows * stride),
        panel(sums + kTileRows * stride),
        lanes(panel + kTilePanelRows * stride) {}

  Real* unit(int64_t row) const { return units + row * stride; }
  Real* sum(int64_t row) const { return sums + row * stride; }
  Real* met(int64_t column) const { return panel + column * stride; }

  const int64_t elements;  // of a row that are read: whole vectors
  const int64_t stride;
  Real* const units;
  Real* const sums;
  Real* const panel;  // the rows that are met
  Real* const lanes;  // the units, transposed
};

// The K places that a row meets start `offset` places after its own.
struct Band {
  int64_t offset;
  int64_t length;
};

// Where in its band a place is, in the lanes of a vector. Modulo 2^32 where Real is
// float: differences alone are used.
template <typename Real>
using LanePosition = typename VectorOf<Real>::bits;

// The rows of a tile: which they are, and where in the tile's band each one's starts.
template <typename Real>
struct TileRows {
  void add(int64_t index, int64_t band_start) {
    indices[count] = index;
    band_starts[count] = band_start;
    starts[count] = static_cast<LanePosition<Real>>(band_start);
    meets[count] = ~LanePosition<Real>{};
    ++count;
  }

  // Row `row` meets nobody.
  void leave_out(int row) {
    meets[row] = 0;
    has_gaps = true;
  }

  int count = 0;
  bool has_gaps = false;
  int64_t indices[kTileRows];
  int64_t band_starts[kTileRows];  // ascending
  alignas(kVectorBytes) LanePosition<Real> starts[kTileRows] = {};
  // All bits for a row that meets its band: not for one left out, nor behind the last.
  alignas(kVectorBytes) LanePosition<Real> meets[kTileRows] = {};
};

// The rows that a panel holds, by their positions in the tile's band.
struct PanelColumns {
  int count = 0;
  int64_t positions[kTilePanelRows];  // ascending
};

// Some of a panel's columns.
struct Columns {
  int begin;
  int end;
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

// Rows of a tile that its blocks of products hold, where `count` are in use.
template <typename Real>
NEGATIVE_COSINE_INLINE int rows_in_blocks(int count) {
  constexpr int kBlockRows = kBlockVectors * kLanes<Real>;
  return (count + kBlockRows - 1) / kBlockRows * kBlockRows;
}

// Once the tile's first `count` rows are packed: the others are zeros, all are
// transposed, and the sums start.
template <typename Real>
NEGATIVE_COSINE_INLINE void finish_loading(const TileMemory<Real>& memory, int count) {
  const int rows = rows_in_blocks<Real>(count);
  const auto row_bytes = sizeof(Real) * static_cast<size_t>(memory.stride);
  __builtin_memset(memory.unit(count), 0,
                   row_bytes * static_cast<size_t>(rows - count));
  __builtin_memset(memory.sums, 0, row_bytes * static_cast<size_t>(rows));
  transpose_rows(memory.units, memory.stride, rows, memory.elements, memory.lanes);
}

// The columns that any of the rows first..last-1 meets, and others between them.
template <typename Real>
NEGATIVE_COSINE_INLINE Columns columns_of(const TileRows<Real>& rows, int first,
                                          int last, int64_t band_length,
                                          const PanelColumns& panel) {
  if (last > rows.count) last = rows.count;
  Columns columns{0, panel.count};
  const int64_t begin = rows.band_starts[first];
  const int64_t end = rows.band_starts[last - 1] + band_length;
  while (columns.begin < columns.end && panel.positions[columns.begin] < begin) {
    ++columns.begin;
  }
  while (columns.end > columns.begin && panel.positions[columns.end - 1] >= end) {
    --columns.end;
  }
  return columns;
}

// Whether each of the rows first..last-1 meets each of the columns.
template <typename Real>
NEGATIVE_COSINE_INLINE bool all_meet(const TileRows<Real>& rows, int first, int last,
                                     int64_t band_length, const PanelColumns& panel,
                                     const Columns& columns) {
  return last <= rows.count && !rows.has_gaps && columns.begin < columns.end &&
         panel.positions[columns.begin] >= rows.band_starts[last - 1] &&
         panel.positions[columns.end - 1] < rows.band_starts[first] + band_length;
}

// The lanes of rows row.. that meet the place at a position.
template <typename Real>
NEGATIVE_COSINE_INLINE Mask<Real> lanes_that_meet(const TileRows<Real>& rows, int row,
                                                  int64_t band_length,
                                                  int64_t position) {
  using Positions = typename VectorOf<Real>::bits_vector;
  using Position = LanePosition<Real>;
  const auto starts = load_bits<Positions>(rows.starts + row);
  const auto meets = load_bits<Mask<Real>>(rows.meets + row);
  const Mask<Real> is_inside =
      static_cast<Position>(position) - starts < static_cast<Position>(band_length);
  return is_inside & meets;
}

// Those of them whose pair with that place is kept: `is_dropped` is asked about the
// index of a row, where there are ids to compare.
template <typename Real, typename IsDropped>
NEGATIVE_COSINE_INLINE Mask<Real> kept_lanes(const TileRows<Real>& rows, int row,
                                             int64_t band_length, int64_t position,
                                             bool has_ids,
                                             const IsDropped& is_dropped) {
  Mask<Real> kept = lanes_that_meet(rows, row, band_length, position);
  for (int lane = 0; has_ids && lane < kLanes<Real>; ++lane) {
    if (kept[lane] != 0 && is_dropped(rows.indices[row + lane])) kept[lane] = 0;
  }
  return kept;
}

// The first position from `position` on that a row meets, where the tile has one; `row`
// is the last row that starts at or before it, and moves on with it.
template <typename Real>
NEGATIVE_COSINE_INLINE int64_t next_met(const TileRows<Real>& rows, int64_t band_length,
                                        int64_t position, int* row) {
  while (*row + 1 < rows.count && rows.band_starts[*row + 1] <= position) ++*row;
  const bool is_in_gap = position >= rows.band_starts[*row] + band_length;
  if (!is_in_gap || *row + 1 == rows.count) return position;
  return rows.band_starts[++*row];
}

// Packs rows that the band has from `position` on and that a row meets, and returns
// where the next ones start.
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE int64_t pack_panel(const TileMemory<Real>& memory,
                                          const TileRows<Real>& rows, const Band& band,
                                          int64_t first_place, int64_t position,
                                          PanelColumns* panel, Pass* pass) {
  const int64_t end = rows.band_starts[rows.count - 1] + band.length;
  int row = 0;
  panel->count = 0;
  for (; position < end && panel->count < kTilePanelRows; ++position) {
    position = next_met(rows, band.length, position, &row);
    const int64_t place = first_place + band.offset + position;
    if (const int64_t skipped = pass->places_to_skip(place); skipped > 0) {
      position += skipped - 1;
      continue;
    }
    panel->positions[panel->count] = position;
    panel->count += pass->pack(place, panel->count);
  }
  for (int c = panel->count; c % kBlockColumns != 0; ++c) {
    __builtin_memset(memory.met(c), 0,
                     sizeof(Real) * static_cast<size_t>(memory.elements));
  }
  return position;
}

// The vectors of a block of rows that meet positions `begin` to `end`.
struct Vectors {
  int first;
  int last;
};

template <typename Real>
NEGATIVE_COSINE_INLINE Vectors vectors_that_meet(const TileRows<Real>& rows, int row,
                                                 int64_t band_length, int64_t begin,
                                                 int64_t end) {
  constexpr int kWidth = kLanes<Real>;
  const auto is_behind = [&](int v) {
    const int next = row + (v + 1) * kWidth;
    const int last = (next < rows.count ? next : rows.count) - 1;
    return rows.band_starts[last] + band_length <= begin;
  };
  const auto is_ahead = [&](int v) {
    const int first = row + v * kWidth;
    return first >= rows.count || rows.band_starts[first] > end;
  };
  Vectors vectors{0, kBlockVectors};
  while (vectors.last > 0 && is_ahead(vectors.last - 1)) --vectors.last;
  while (vectors.first < vectors.last && is_behind(vectors.first)) ++vectors.first;
  return vectors;
}

// products[c][row..], for a block of rows, by whole blocks of columns.
template <typename Real>
NEGATIVE_COSINE_INLINE void multiply(const TileMemory<Real>& memory,
                                     const TileRows<Real>& rows, int row,
                                     int64_t band_length, const PanelColumns& panel,
                                     Products<Real>& products) {
  for (int c = 0; c < panel.count; c += kBlockColumns) {
    const int last =
        (c + kBlockColumns < panel.count ? c + kBlockColumns : panel.count);
    const Vectors vectors = vectors_that_meet(
        rows, row, band_length, panel.positions[c], panel.positions[last - 1]);
    const int first = row + vectors.first * kLanes<Real>;
    const ProductInputs<Real> inputs{memory.lanes + first, memory.met(c),
                                     memory.stride};
    Real* to = &products[c][first];
    static_assert(kBlockVectors == 3, "a block for each number of vectors");
    const int count = vectors.last - vectors.first;
    if (count == 3) {
      multiply_block<3, kBlockColumns>(inputs, memory.elements, to);
    } else if (count == 2) {
      multiply_block<2, kBlockColumns>(inputs, memory.elements, to);
    } else if (count == 1) {
      multiply_block<1, kBlockColumns>(inputs, memory.elements, to);
    }
  }
}

// Weighs the products of vectors of rows, as far as their groups read them.
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE void weigh_vectors(const TileRows<Real>& rows, int first,
                                          int last, int64_t band_length,
                                          const PanelColumns& panel,
                                          Products<Real>& products, Pass* pass) {
  for (int row = first; row < last; row += kLanes<Real>) {
    const int end = row + kLanes<Real>;
    const int first_of_group = row / kGroup * kGroup;
    const Columns columns = columns_of(
        rows, first_of_group, (end + kGroup - 1) / kGroup * kGroup, band_length, panel);
    const bool meet_all = all_meet(rows, row, end, band_length, panel, columns);
    pass->weigh(row, columns, panel, meet_all, &products[0][row]);
  }
}

// Takes a tile's rows through a panel.
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE void meet_panel(const TileMemory<Real>& memory,
                                       const TileRows<Real>& rows, int64_t band_length,
                                       const PanelColumns& panel, bool accumulates,
                                       Products<Real>& products, Pass* pass) {
  constexpr int kBlockRows = kBlockVectors * kLanes<Real>;
  const int used = (rows.count + kGroup - 1) / kGroup * kGroup;
  for (int row = 0; row < used; row += kBlockRows) {
    const int last = row + kBlockRows < used ? row + kBlockRows : used;
    multiply(memory, rows, row, band_length, panel, products);
    weigh_vectors(rows, row, last, band_length, panel, products, pass);
  }
  for (int row = 0; accumulates && row < used; row += kGroup) {
    const Columns met = columns_of(rows, row, row + kGroup, band_length, panel);
    accumulate_group(memory.panel, memory.stride, memory.elements, met.begin, met.end,
                     &products[0][row], memory.sum(row));
  }
}

// Takes a tile's rows through their band. The pass says what is packed, and what its
// products weigh:
//
//   places_to_skip(place)   how many places from this one on hold no row to be met,
//                           where that is known without a look at each
//   pack(place, column)     packs the row at a place as the panel's column and returns
//                           true, or returns false where no row is to be met
//   weigh(row, columns, panel, meet_all, products)
//                           turns the products of a vector of rows into weights, for
//                           some of the panel's columns; unless `meet_all`, the rows
//                           meet some of those only, and the others weigh zero
template <typename Real, typename Pass>
NEGATIVE_COSINE_INLINE void meet_band(const TileMemory<Real>& memory,
                                      const TileRows<Real>& rows, const Band& band,
                                      int64_t first_place, bool accumulates,
                                      Pass* pass) {
  if (rows.count == 0 || band.length <= 0) return;
  const int64_t end = rows.band_starts[rows.count - 1] + band.length;
  alignas(kVectorBytes) Products<Real> products = {};
  PanelColumns panel;
  for (int64_t position = rows.band_starts[0]; position < end;) {
    position = pack_panel(memory, rows, band, first_place, position, &panel, pass);
    if (panel.count == 0) continue;
    meet_panel(memory, rows, band.length, panel, accumulates, products, pass);
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
