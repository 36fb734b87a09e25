// The two products of a tile: of its rows with those of a panel, and of the panel's
// rows with their weights.
//
// A tile's rows lie side by side in the lanes of vectors, element by element
// (tiles/transpose.h), so that one element of a panel's row meets all of them:
//
//   products[c][r] = sum over d of panel[c][d] * tile[d][r],
//   sums[r][d]    += sum over c of weights[c][r] * panel[c][d].
//
// Both keep a block of results in registers while their sum goes on, as a matrix
// product does.
#pragma once

#include <cstdint>

#include "cpu/device/vector.h"
#include "cpu/tiles/scratch_size.h"

namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA {

// Vectors of a tile's rows, times columns of the panel: a block of products. With its
// vectors and one element more it fits the registers.
constexpr int kBlockVectors = 3;
constexpr int kBlockColumns = kVectorBytes == 64 ? 8 : 4;

// Rows of a tile, times vectors of a row: a block of sums.
constexpr int kGroup = kVectorBytes == 64 ? 6 : 3;
constexpr int kGroupVectors = 4;

static_assert(kTileRows % kGroup == 0 && kTilePanelRows % kBlockColumns == 0,
              "no ragged blocks");

// Products are summed over this many elements at a time, and then the sums: one long
// sum of elements that do not cancel would lose more digits than docs/numerics.md
// promises.
constexpr int64_t kBlockElements = 64;

// One panel's products, and then weights, with the rows of the tile.
template <typename Real>
using Products = Real[kTilePanelRows][kTileRows];

// What the products are made of: the tile's lanes, and rows of `stride` elements.
template <typename Real>
struct ProductInputs {
  const Real* lanes;  // [elements][kTileRows], from a vector of rows on
  const Real* panel;  // from a column on
  int64_t stride;
};

// The sums over elements begin..end-1, which are whole vectors.
template <int kVectors, int kColumns, typename Real>
NEGATIVE_COSINE_INLINE void multiply_elements(
    const ProductInputs<Real>& inputs, int64_t begin, int64_t end,
    Vector<Real> (&sums)[kColumns][kVectors]) {
  const Real* lanes = inputs.lanes + begin * kTileRows;
  const Real* columns[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    columns[c] = inputs.panel + c * inputs.stride + begin;
  }
  for (int64_t start = begin; start < end; start += kLanes<Real>) {
#pragma GCC unroll 16
    for (int d = 0; d < kLanes<Real>; ++d) {
      Vector<Real> rows[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        rows[v] = load(lanes + d * kTileRows + v * kLanes<Real>);
      }
      for (int c = 0; c < kColumns; ++c) {
        const Vector<Real> element = broadcast(columns[c][d]);
        for (int v = 0; v < kVectors; ++v) {
          sums[c][v] = multiply_add(element, rows[v], sums[c][v]);
        }
      }
    }
    lanes += kLanes<Real> * kTileRows;
    for (int c = 0; c < kColumns; ++c) columns[c] += kLanes<Real>;
  }
}

// products[c][..] for a block of columns, with `elements` elements a row: whole
// vectors. A product has the same bits in every block.
template <int kVectors, int kColumns, typename Real>
NEGATIVE_COSINE_INLINE void multiply_block(const ProductInputs<Real>& inputs,
                                           int64_t elements, Real* products) {
  for (int64_t begin = 0; begin < elements; begin += kBlockElements) {
    const int64_t rest = elements - begin;
    const int64_t end = begin + (rest < kBlockElements ? rest : kBlockElements);
    Vector<Real> sums[kColumns][kVectors] = {};
    multiply_elements(inputs, begin, end, sums);
    for (int c = 0; c < kColumns; ++c) {
      for (int v = 0; v < kVectors; ++v) {
        Real* to = products + c * kTileRows + v * kLanes<Real>;
        store(to, begin == 0 ? sums[c][v] : load(to) + sums[c][v]);
      }
    }
  }
}

template <int kVectors, typename Real>
NEGATIVE_COSINE_INLINE void accumulate_vectors(const Real* panel, int64_t stride,
                                               int begin, int end, const Real* weights,
                                               Real* sums) {
  Vector<Real> block[kGroup][kVectors];
  for (int r = 0; r < kGroup; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      block[r][v] = load(sums + r * stride + v * kLanes<Real>);
    }
  }
  for (int c = begin; c < end; ++c) {
    Vector<Real> met[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      met[v] = load(panel + c * stride + v * kLanes<Real>);
    }
    for (int r = 0; r < kGroup; ++r) {
      const Vector<Real> weight = broadcast(weights[c * kTileRows + r]);
      for (int v = 0; v < kVectors; ++v) {
        block[r][v] = multiply_add(weight, met[v], block[r][v]);
      }
    }
  }
  for (int r = 0; r < kGroup; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      store(sums + r * stride + v * kLanes<Real>, block[r][v]);
    }
  }
}

// sums[r] += sum over the panel's rows c = begin..end-1 of weights[c][r] * panel[c],
// for a group's rows r. `elements` are whole vectors.
template <typename Real>
NEGATIVE_COSINE_INLINE void accumulate_group(const Real* panel, int64_t stride,
                                             int64_t elements, int begin, int end,
                                             const Real* weights, Real* sums) {
  constexpr int kStep = kGroupVectors * kLanes<Real>;
  int64_t at = 0;
  for (; at + kStep <= elements; at += kStep) {
    accumulate_vectors<kGroupVectors>(panel + at, stride, begin, end, weights,
                                      sums + at);
  }
  for (; at < elements; at += kLanes<Real>) {
    accumulate_vectors<1>(panel + at, stride, begin, end, weights, sums + at);
  }
}

}  // namespace negative_cosine::cpu::NEGATIVE_COSINE_ISA
