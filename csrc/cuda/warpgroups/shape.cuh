// The sizes of a tile that warpgroups multiply (Hopper): as TileShape
// (tiles/shape.cuh), by whose names the steps of both know them.
//
// A block has two warpgroups that multiply, and one that copies panels for them. A
// warpgroup takes 64 rows. Where there are tiles enough for all multiprocessors, a tile
// has 128 rows, which meet every panel; else 64, and each warpgroup meets every second
// panel with them: they are groups then (tiles/groups.cuh).
//
// Registers decide how many columns a panel has. A lane of a warpgroup holds half as
// many sums as a row has elements and half as many products as a panel has columns: 64
// and 64 of rows of 128 elements, and of longer ones 128 and 32.
#pragma once

#include "core/data_type.h"
#include "cuda/device/warpgroup.cuh"
#include "cuda/tiles/shape.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kWarpsOfWarpgroup = 4;
constexpr int kRowsOfWarpgroup = kWarpsOfWarpgroup * kRowsOfWarp;

template <typename StorageType, int kPaddedDim, int kTileRows>
struct WarpgroupShape {
  using Factor = StorageType;
  using Storage = StorageType;
  using Real = ComputeType<Storage>;
  static constexpr bool kIsOfWarpgroups = true;
  static constexpr bool kRoundsWeights = true;
  static constexpr int kDim = kPaddedDim;
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Storage));

  static constexpr int kRows = kTileRows;
  static constexpr int kGroups = 2 * kRowsOfWarpgroup / kRows;
  static constexpr int kSlices = 1;
  static constexpr int kSliceDim = kDim;
  static constexpr int kColumns = kDim <= 128 ? 128 : 64;
  // Columns that are weighed together: a part of a panel.
  static constexpr int kColumnsOfWarp = kDim <= 128 ? 32 : 16;
  static constexpr int kParts = kColumns / kColumnsOfWarp;

  // Warps that have rows. Those that copy come behind them.
  static constexpr int kWarps = 2 * kWarpsOfWarpgroup;
  static constexpr int kWarpsThatCopy = kWarpsOfWarpgroup;
  static constexpr int kThreads = (kWarps + kWarpsThatCopy) * kWarpSize;
  static constexpr int kBlocks = 1;
  static constexpr int kWindow = 0;  // each thread that copies finds a place by itself

  // A multiprocessor has 65,536 registers, of which a launch gives the block as many as
  // each of its threads can have: 168, in eights. Those that copy give most of theirs
  // back, and no more than that can be taken: who asks for more waits for ever.
  static constexpr int kRegistersOfLaunch = 65536 / kThreads / 8 * 8;
  static constexpr int kRegistersOfCopies = 88;
  static constexpr int kRegistersOfProducts = 208;
  static_assert(kWarpsThatCopy * kRegistersOfCopies + kWarps * kRegistersOfProducts <=
                    (kWarpsThatCopy + kWarps) * kRegistersOfLaunch,
                "what is taken was given back");

  static constexpr int kPacket = 8;
  static constexpr int kThreadsOfRow = kDim <= 128 ? 8 : 16;
  static constexpr int kTeams = kWarpsThatCopy * kWarpSize / kThreadsOfRow;
  static constexpr int kFirstThreadOfTeams = kWarps * kWarpSize;
  // One is on its way, one is complete, and each group has one whose sums are under
  // way. A group gives that back when it has multiplied its next one, and a panel is
  // complete when the copies of the one behind it have begun: with fewer stages all
  // would wait for each other.
  static constexpr int kStages = 4;
  static_assert(kStages >= kGroups + 2, "nobody waits for ever");

  // A barrier of the warps that have rows.
  static constexpr int kBarrierOfRows = 1;
  __device__ __forceinline__ static void synchronise() {
    cuda::synchronise(kBarrierOfRows, kWarps * kWarpSize);
  }

  static_assert(kRows % kRowsOfWarpgroup == 0 && kRows <= 2 * kRowsOfWarpgroup,
                "whole warpgroups");
  static_assert(kDim % 64 == 0 && kDim <= 256, "whole atoms, and room for the sums");
};

// Whether the running warp has rows, as the compiler knows to be the same for all of
// its lanes: products are issued on one way alone.
template <typename Shape>
__device__ __forceinline__ bool warp_has_rows() {
  return same_in_warp(has_rows_of_tile<Shape>()) != 0;
}

__device__ __forceinline__ int warpgroup_of_thread() {
  return warp_of_thread() / kWarpsOfWarpgroup;
}

// The first row of the tile that the running warpgroup has.
template <typename Shape>
__device__ __forceinline__ int first_row_of_warpgroup() {
  return warpgroup_of_thread() * kRowsOfWarpgroup % Shape::kRows;
}

}  // namespace cuda
}  // namespace negative_cosine
