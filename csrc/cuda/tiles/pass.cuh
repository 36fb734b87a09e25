// The steps that both passes over tiles have in common. The mainloop takes a panel of
// rows at a time: copy, prepare, multiply, weigh, accumulate. The forward pass has
// queries in the tile and documents in the panels, the gradient pass the reverse.
#pragma once

#include "core/rules.h"
#include "cuda/tiles/band.cuh"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/products.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// Calls `work(row)` for each of the tile's own rows that the running team takes.
template <typename Shape, typename Work>
__device__ __forceinline__ void for_each_own_row(const Work& work) {
#pragma unroll 1
  for (int row = RowTeam<Shape>::number(); row < Shape::kRows; row += Shape::kColumns) {
    work(row);
  }
}

// Of the tile's row that is the lane's; NaN if the row holds NaN or infinity.
template <typename Shape>
__device__ __forceinline__ typename Shape::Real inverse_norm_of_half(
    const TileRows<Shape>& own, int half) {
  const int row = row_of_half<Shape>(half);
  return own.inverse_norm[row] + own.nan_addend[row];
}

// The products of the running warp's rows with a panel; the pointers are to the warp's
// slice. All threads of the block call it; a warp that does not take part only waits.
template <typename Shape>
__device__ __forceinline__ void multiply_panel(
    bool takes_part, const SharedElement<typename Shape::Storage>* rows,
    const SharedElement<typename Shape::Storage>* panel,
    const TileSlices<Shape>& slices, Products<Shape>& products) {
  if (takes_part) TileProducts<Shape>::multiply(rows, panel, products);
  slices.add_up(takes_part, products);
}

// sums += weights times the panel.
template <typename Shape>
__device__ __forceinline__ void accumulate_panel(
    const Products<Shape>& weights, const SharedElement<typename Shape::Storage>* panel,
    RowSums<Shape>& sums) {
  __syncwarp();  // lanes may have dropped pairs one by one
  TileProducts<Shape>::accumulate(weights, panel, sums);
}

// Corrects logits by logQ. `candidate(half, column)` and `positive(half, column)` are
// the numbers of a pair's rows in `inputs`.
template <typename Shape, typename Candidate, typename Positive>
__device__ __forceinline__ void correct(const PairInputs<Shape>& inputs,
                                        const Candidate& candidate,
                                        const Positive& positive,
                                        Products<Shape>& logits) {
  for_each_product<Shape>([&](int fragment, int element, int half, int column) {
    logits[fragment][element] = corrected_logit(logits[fragment][element],
                                                inputs.log_q(candidate(half, column)),
                                                inputs.log_q(positive(half, column)));
  });
}

// Multiplies the sums of one of the lane's two rows.
template <typename Shape>
__device__ __forceinline__ void scale_row(int half, typename Shape::Real factor,
                                          RowSums<Shape>& sums) {
#pragma unroll
  for (auto& sum : sums) {
    sum[2 * half] *= factor;
    sum[2 * half + 1] *= factor;
  }
}

}  // namespace cuda
}  // namespace negative_cosine
