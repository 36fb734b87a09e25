// A block's shared memory in the gradient pass: the tile's documents, and two panels of
// queries with what the forward pass saved of them.
#pragma once

#include <cstddef>
#include <type_traits>

#include "core/formulas.h"
#include "cuda/tiles/groups.cuh"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/queries.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// What a group finds of a row besides its sum.
// The last three only where weights are rounded (rounding.cuh).
enum GradientNumber {
  kProjection,
  kWeightDivisor,
  kAllWeights,  // the sum of their absolute values
  kLostWeightsOfDoc,
  kAlongDoc
};
template <typename Shape>
constexpr int kGradientNumbers = Shape::kRoundsWeights ? 5 : 2;

// What a document's gradient is made of, besides its elements:
// (sum - doc * projection) * factor, where the sums are those divided by `divisor`.
// Where weights are rounded the sum has a factor, and the document's own query is
// added: its coefficient times its inverse norm times its elements.
enum DocFactor {
  kMergedDivisor,
  kProjectionFactor,
  kGradientFactor,
  kSumFactor,
  kOwnCoefficient,
  kOwnInverseNorm
};
template <typename Shape>
constexpr int kDocFactors = Shape::kRoundsWeights ? 6 : 3;

// Of queries at some of the band's places alone, or of one for each place.
template <typename Shape, bool kHasGaps>
struct GradientTileMemory {
  using Places = std::conditional_t<kHasGaps, BandQueries<Shape::kWindow>,
                                    TilePlaces<Shape::kWindow>>;
  using Real = typename Shape::Real;
  static constexpr int kStagedRows = Shape::kStages * Shape::kColumns;
  static constexpr int kLengths = Shape::kRoundsWeights ? kStagedRows : 0;
  static constexpr int kQueryPlaces = kHasGaps ? kStagedRows : 0;
  using Saved = SavedRow<Real>;
  static constexpr int kSavedNumbers = sizeof(Saved) / sizeof(Real);

  __device__ __forceinline__ GradientTileMemory()
      : docs(&arrays, Shape::kRows),
        queries(&arrays, kStagedRows),
        query_places(arrays.template take<uint32_t>(kQueryPlaces)),
        pair_inputs(&arrays, Shape::kRows + kStagedRows),
        saved(arrays.template take<Real>(kSavedNumbers * kStagedRows)),
        upstream(arrays.template take<Real>(kStagedRows)),
        coefficients(arrays.template take<Real>(kStagedRows)),
        positive_cosines(arrays.template take<Real>(kStagedRows)),
        shifts(arrays.template take<Real>(kStagedRows)),
        own_coefficients(arrays.template take<Real>(Shape::kRows)),
        query_factors(arrays.template take<Real>(Shape::kRows)),
        factors(arrays.template take<Real>(kDocFactors<Shape> * Shape::kRows)),
        weight_factors(arrays.template take<Real>(kLengths)),
        lengths(arrays.template take<Real>(kLengths)),
        places(&arrays),
        slices(&arrays),
        groups(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kStagedRows) +
      shared_bytes(kQueryPlaces, sizeof(uint32_t)) +
      PairInputs<Shape>::bytes(Shape::kRows + kStagedRows) +
      shared_bytes(kSavedNumbers * kStagedRows, sizeof(Real)) +
      4 * shared_bytes(kStagedRows, sizeof(Real)) +
      2 * shared_bytes(Shape::kRows, sizeof(Real)) +
      shared_bytes(kDocFactors<Shape> * Shape::kRows, sizeof(Real)) +
      2 * shared_bytes(kLengths, sizeof(Real)) + Places::kBytes +
      TileSlices<Shape>::kBytes + TileGroups<Shape, kGradientNumbers<Shape>>::kBytes;

  // What was saved of a query, as it was copied.
  __device__ __forceinline__ Saved saved_of(int staged) const {
    const auto* from = saved + kSavedNumbers * staged;
    return {from[offsetof(Saved, candidate_coefficient) / sizeof(Real)],
            from[offsetof(Saved, positive_cosine) / sizeof(Real)],
            from[offsetof(Saved, shift) / sizeof(Real)],
            from[offsetof(Saved, query_inverse_norm) / sizeof(Real)]};
  }

  __device__ __forceinline__ SharedElement<Real>& factor(DocFactor which,
                                                         int in_tile) const {
    return factors[which * Shape::kRows + in_tile];
  }

  ArraysOf<Shape> arrays;
  TileRows<Shape> docs;
  TileRows<Shape> queries;
  SharedElement<uint32_t>* const query_places;  // in the band, where that has gaps
  PairInputs<Shape> pair_inputs;        // of the docs, and behind them the queries
  SharedElement<Real>* const saved;     // SavedRow of the queries
  SharedElement<Real>* const upstream;  // the gradient of each query's loss
  // What a pair needs of its query, each beside that of the next one. The coefficient
  // is multiplied by the upstream gradient.
  SharedElement<Real>* const coefficients;
  SharedElement<Real>* const positive_cosines;
  SharedElement<Real>* const shifts;
  // Of each document's own query: what its gradient adds to the document's, and what
  // its direction is multiplied by.
  SharedElement<Real>* const own_coefficients;
  SharedElement<Real>* const query_factors;
  SharedElement<Real>* const factors;
  // Of queries, where weights are rounded: what a weight is multiplied by, and by what
  // that is undone.
  SharedElement<Real>* const weight_factors;
  SharedElement<Real>* const lengths;
  Places places;
  TileSlices<Shape> slices;
  TileGroups<Shape, kGradientNumbers<Shape>> groups;
};

}  // namespace cuda
}  // namespace negative_cosine
