// The inverse norms of all documents, by themselves: where bands are wide, each
// document is met by many tiles, and this is less than to compute its norm in each of
// them.
#pragma once

#include "cuda/tiles/pass.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct NormsMemory {
  __device__ __forceinline__ NormsMemory()
      : rows(arrays.template take<typename Shape::Storage>(Shape::kTeams *
                                                           Shape::kStride)) {}

  static constexpr int kBytes =
      shared_bytes(Shape::kTeams * Shape::kStride, sizeof(typename Shape::Storage));

  SharedArrays arrays;
  SharedElement<typename Shape::Storage>* const rows;
};

// Each team takes one row, so the bits are those that the forward pass would compute.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    doc_norms_kernel(const LossParams params, void* inverse_norms,
                     const RowAlignment alignment) {
  using Storage = typename Shape::Storage;
  const RowTeam<Shape> team(params.dim, alignment);
  const NormsMemory<Shape> memory;
  const int64_t doc = int64_t{blockIdx.x} * Shape::kTeams + team.number();
  const bool exists = doc < params.num_candidates;
  auto* row = memory.rows + team.number() * Shape::kStride;
  team.copy(static_cast<const Storage*>(params.doc) + (exists ? doc : 0) * params.dim,
            exists, row);
  commit_copies();
  wait_for_copies<0>();
  __syncwarp();
  const auto inverse_norm = team.inverse_norm(row);
  if (exists && team.is_first_thread()) {
    __stcg(static_cast<typename Shape::Real*>(inverse_norms) + doc, inverse_norm);
  }
}

}  // namespace cuda
}  // namespace negative_cosine
