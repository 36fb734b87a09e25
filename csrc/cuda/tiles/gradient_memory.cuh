// A block's shared memory in the gradient pass: the tile's documents, and two panels of
// queries with what the forward pass saved of them.
#pragma once

#include <cstddef>

#include "core/formulas.h"
#include "cuda/tiles/groups.cuh"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/places.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// What a group finds of a row besides its sum.
enum GradientNumber { kProjection, kWeightDivisor, kGradientNumbers };

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
        slices(&arrays),
        groups(&arrays) {}

  static constexpr int kBytes =
      TileRows<Shape>::bytes(Shape::kRows) + TileRows<Shape>::bytes(kStagedRows) +
      PairInputs<Shape>::bytes(Shape::kRows + kStagedRows) +
      shared_bytes(kSavedNumbers * kStagedRows, sizeof(Real)) +
      shared_bytes(kStagedRows, sizeof(Real)) +
      shared_bytes(Shape::kRows, sizeof(Real)) + TilePlaces<Shape::kThreads>::kBytes +
      TileSlices<Shape>::kBytes + TileGroups<Shape, kGradientNumbers>::kBytes;

  // Of a query as it was given, in float32 by one access.
  __device__ __forceinline__ Saved saved_of(int staged) const {
    static_assert(kSavedNumbers == 4, "a packet of float32");
    const auto* from = saved + kSavedNumbers * staged;
    Real numbers[4];
    if constexpr (sizeof(Real) == 4) {
      read_packet(from, numbers);
    } else {  // whose packets would meet in the same banks
#pragma unroll
      for (int i = 0; i < 4; ++i) numbers[i] = from[i];
    }
    return {numbers[offsetof(Saved, candidate_coefficient) / sizeof(Real)],
            numbers[offsetof(Saved, positive_cosine) / sizeof(Real)],
            numbers[offsetof(Saved, shift) / sizeof(Real)],
            numbers[offsetof(Saved, query_inverse_norm) / sizeof(Real)]};
  }
  __device__ __forceinline__ Real positive_cosine(int staged) const {
    return saved[kSavedNumbers * staged +
                 offsetof(Saved, positive_cosine) / sizeof(Real)];
  }
  __device__ __forceinline__ SharedElement<Real>& candidate_coefficient(
      int staged) const {
    return saved[kSavedNumbers * staged +
                 offsetof(Saved, candidate_coefficient) / sizeof(Real)];
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
  TileGroups<Shape, kGradientNumbers> groups;
};

}  // namespace cuda
}  // namespace negative_cosine
