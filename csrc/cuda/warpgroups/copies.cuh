// How the warps that copy share the rows of a tile or a panel.
#pragma once

#include "cuda/candidates/candidates.cuh"
#include "cuda/tiles/rows.cuh"

namespace negative_cosine {
namespace cuda {

// Calls `work(row)` in one lane for each of kCount rows: the lane's own row.
template <typename Shape, int kCount, typename Work>
__device__ __forceinline__ void for_own_row(const Work& work) {
  using Team = RowTeam<Shape>;
  constexpr int kRowsOfTeam = kCount / Shape::kTeams;
  static_assert(kRowsOfTeam <= Shape::kThreadsOfRow, "a lane for each row");
  if (Team::thread() >= kRowsOfTeam) return;
  work(Team::number() + Team::thread() * Shape::kTeams);
}

// Calls `work(row, index, is_mine)` for each of kCount rows that the running team
// takes, with the index that `find(row)` gave. It costs a keyed bijection with `ring`,
// so each lane of a team finds one row's, and has that row as its own: what belongs to
// a row besides its elements, one lane copies.
template <typename Shape, int kCount, typename Find, typename Work>
__device__ __forceinline__ void for_each_found_row(const Find& find, const Work& work) {
  using Team = RowTeam<Shape>;
  constexpr int kRowsOfTeam = kCount / Shape::kTeams;
  int32_t found = kNotKept;
  for_own_row<Shape, kCount>([&](int row) { found = find(row); });
#pragma unroll(kRowsOfTeam < 8 ? kRowsOfTeam : 8)
  for (int i = 0; i < kRowsOfTeam; ++i) {
    work(Team::number() + i * Shape::kTeams,
         __shfl_sync(kWholeWarp, found, i, Shape::kThreadsOfRow), Team::thread() == i);
  }
}

}  // namespace cuda
}  // namespace negative_cosine
