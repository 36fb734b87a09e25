// A block's shared memory in the gradient pass: the tile's documents, and two panels of
// queries with what the forward pass saved of them.
#pragma once

#include <cstddef>

#include "core/formulas.h"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/places.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct GradientTileMemory {
  using Real = typename Shape::Real;
  static constexpr int kStagedRows = 2 * Shape::kColumns;
  using Saved = SavedRow<Real>;
  static constexpr int kSavedNumbers = sizeof(Saved) / sizeof(Real);

  __device__ __forceinline__ GradientTileMemory()
      : docs(&arrays, Shape::kRows),
        queries(&arrays, kStagedRows),
        pair_inputs(&arrays, Shape::kRows + kStagedRows),
        saved(arrays.template take<Real>(kSavedNumbers * kStagedRows)),
        upstream(arrays.template take<Real>(kStagedRows)),
        own_coefficients(arrays.template take<Real>(Shape::kRows)),
        places(&arrays),
        slices(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kStagedRows) +
      PairInputs<Shape>::bytes(Shape::kRows + kStagedRows) +
      shared_bytes(kSavedNumbers * kStagedRows, sizeof(Real)) +
      shared_bytes(kStagedRows, sizeof(Real)) +
      shared_bytes(Shape::kRows, sizeof(Real)) + TilePlaces<Shape::kThreads>::kBytes +
      TileSlices<Shape>::kBytes;

  // Of the queries as they were given.
  __device__ __forceinline__ SharedElement<Real>& candidate_coefficient(
      int staged) const {
    return saved[kSavedNumbers * staged +
                 offsetof(Saved, candidate_coefficient) / sizeof(Real)];
  }
  __device__ __forceinline__ Real positive_cosine(int staged) const {
    return saved[kSavedNumbers * staged +
                 offsetof(Saved, positive_cosine) / sizeof(Real)];
  }
  __device__ __forceinline__ Real shift(int staged) const {
    return saved[kSavedNumbers * staged + offsetof(Saved, shift) / sizeof(Real)];
  }
  __device__ __forceinline__ Real query_inverse_norm(int staged) const {
    return saved[kSavedNumbers * staged +
                 offsetof(Saved, query_inverse_norm) / sizeof(Real)];
  }

  SharedArrays arrays;
  TileRows<Shape> docs;
  TileRows<Shape> queries;
  PairInputs<Shape> pair_inputs;        // of the docs, and behind them the queries
  SharedElement<Real>* const saved;     // SavedRow of the queries
  SharedElement<Real>* const upstream;  // the gradient of each query's loss
  SharedElement<Real>* const own_coefficients;  // of each document's own query
  TilePlaces<Shape::kThreads> places;           // of the queries
  TileSlices<Shape> slices;
};

}  // namespace cuda
}  // namespace negative_cosine
