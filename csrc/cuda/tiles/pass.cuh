// The steps that both passes over tiles have in common. The mainloop takes a panel of
// rows at a time: copy, prepare, multiply, weigh, accumulate. The forward pass has
// queries in the tile and documents in the panels, the gradient pass the reverse.
#pragma once

#include "core/rules.h"
#include "cuda/tiles/band.cuh"
#include "cuda/tiles/groups.cuh"
#include "cuda/tiles/memory.cuh"
#include "cuda/tiles/products.cuh"
#include "cuda/tiles/slices.cuh"

namespace negative_cosine {
namespace cuda {

// Calls `work(row)` for each of `count` rows that the running team takes.
template <typename Shape, typename Work>
__device__ __forceinline__ void for_each_row_of_team(int count, const Work& work) {
#pragma unroll 1
  for (int row = RowTeam<Shape>::number(); row < count; row += Shape::kTeams) {
    work(row);
  }
}

// The products of the running warp's rows with its part of a panel; the pointers are to
// the warp's slice. All threads of the block call it; a warp that does not take part
// only waits.
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

// Keeps, of the columns of a lane's rows, those that do not have the ids of their row.
// The rows' and the columns' numbers in `inputs` are `rows` and from `first_column` on;
// the candidate of a pair is the row of doc number `index(half, column)`.
template <typename Shape, typename Index>
__device__ __forceinline__ void drop_equal_ids(const LossParams& params,
                                               const PairInputs<Shape>& inputs,
                                               const int (&rows)[2], int first_column,
                                               const Index& index,
                                               uint32_t (&kept)[2]) {
  // One comparison a pair in most panels; the rest is for the others.
  if (!__any_sync(kWholeWarp, inputs.are_alike(params, rows, first_column))) return;
  uint32_t alike[2] = {};
  inputs.find_alike(params, rows, first_column, alike);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t others = kept[half] & ~alike[half];
    kept[half] = others | without(kept[half] & alike[half], [&](int column) {
                   return inputs.are_equal(params, rows[half], first_column + column,
                                           index(half, column));
                 });
  }
}

template <typename Shape>
__device__ __forceinline__ void copy_products(const Products<Shape>& from,
                                              Products<Shape>& to) {
  for_each_product<Shape>([&](int fragment, int element, int, int) {
    to[fragment][element] = from[fragment][element];
  });
}

// Multiplies the sums of one of the lane's rows.
template <typename Shape>
__device__ __forceinline__ void scale_row(int row, typename Shape::Real factor,
                                          RowSums<Shape>& sums) {
#pragma unroll
  for (auto& sum : sums) {
    sum[row * 2] *= factor;
    sum[row * 2 + 1] *= factor;
  }
}

}  // namespace cuda
}  // namespace negative_cosine
