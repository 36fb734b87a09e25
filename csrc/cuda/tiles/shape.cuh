// The sizes of a tile: its own rows, which a block holds in shared memory, the panels
// of rows that they are multiplied with, and how the block's warps share the work.
#pragma once

#include "core/data_type.h"
#include "cuda/device/element_types.h"
#include "cuda/device/shared_memory.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kRowsOfWarp = 16;  // as the tensor cores take them

// The number of slices into which rows are cut, so that a lane's sums of a slice take
// at most `most_bytes`: a power of two, so that the threads of a block share its rows
// evenly.
constexpr int slices_of(int sum_bytes, int most_bytes) {
  int slices = 1;
  while (sum_bytes > slices * most_bytes) slices *= 2;
  return slices;
}

// Longer rows leave room for fewer of them, and are cut into slices: as many warps take
// the same 16 rows, each with the sums of its slice. Tight shapes are for devices on
// which a block gets at most 99 KiB (capabilities 8.6, 8.9 and 12.0).
template <typename FactorType, int kPaddedDim, bool kTight = false>
struct TileShape {
  using Factor = FactorType;  // what is multiplied: Storage, or Tf32
  using Storage = StorageOf<Factor>;
  using Real = ComputeType<Storage>;
  static constexpr int kDim = kPaddedDim;
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Storage));
  // The rows of a panel, which are the columns of the products. Fewer where shared
  // memory is short, and where float64 products would not leave enough registers.
  static constexpr int kColumns = kTight || kRowBytes > 1024 || sizeof(Storage) == 8
                                      ? 16
                                      : 32;
  static constexpr int kRows = kRowBytes <= 512                      ? 64
                               : kRowBytes <= (kTight ? 1024 : 2048) ? 2 * kColumns
                                                                     : 16;
  // The sums of 16 rows stay in a warp's registers, which are 1020 bytes a lane. They
  // get half of it, or a quarter where plain arithmetic also holds packets of long rows
  // there.
  static constexpr int kSumBytes = kDim * kRowsOfWarp / kWarpSize * int{sizeof(Real)};
  static constexpr int kSumBytesOfLane =
      sizeof(Storage) < 4 || kRowBytes <= 512 ? 512 : 256;
  static constexpr int kSlices = slices_of(kSumBytes, kSumBytesOfLane);
  static constexpr int kSliceDim = kDim / kSlices;
  static constexpr int kWarps = kRows / kRowsOfWarp * kSlices;
  static constexpr int kThreads = kWarps * kWarpSize;
  // Blocks that share a multiprocessor: registers of short rows leave room for three.
  static constexpr int kBlocks = sizeof(Storage) < 8 && kRowBytes <= 256 ? 3 : 1;
  static constexpr int kPacket = 16 / static_cast<int>(sizeof(Storage));
  // A packet more than whole rows of banks: eight rows' packets then lie in eight
  // different groups of banks.
  static constexpr int kStride = kDim + kPacket;
  // Threads that copy and prepare a row together.
  static constexpr int kThreadsOfRow = kThreads / kColumns;
  // Whether the forward pass has room for a tile's own documents beside the panels
  // behind them. Otherwise it reads them twice.
  static constexpr bool kKeepsOwnDocs = kRowBytes <= 512;

  static_assert(kRowBytes % kSharedAlignment == 0, "no bank conflicts");
  static_assert(kThreads % kColumns == 0 && kRows % kColumns == 0, "whole panels");
  static_assert(kKeepsOwnDocs || kRows <= 2 * kColumns,
                "own documents fit the two stages");
};

// The rows of the tile that begins at a place. Places and columns of a tile are numbers
// of 32 bits: C is below 2^31, and so is K.
template <typename Shape>
__device__ __forceinline__ int rows_of_tile(int64_t num_candidates,
                                            uint32_t first_place) {
  const int64_t left = num_candidates - first_place;
  return left < Shape::kRows ? static_cast<int>(left) : Shape::kRows;
}

template <typename Shape>
__device__ __forceinline__ uint32_t first_column(int32_t panel) {
  return static_cast<uint32_t>(panel) * Shape::kColumns;
}

// A fragment: the elements that a lane holds of 16 rows and 8 columns, as the tensor
// cores distribute them. With g = lane / 4 and q = lane % 4, element 2 h + j is in row
// g + 8 h and column 2 q + j.
constexpr int kFragmentColumns = 8;
constexpr int kFragmentElements = 4;

__device__ __forceinline__ int row_of_lane() { return lane_of_thread() / 4; }
__device__ __forceinline__ int column_of_lane() { return lane_of_thread() % 4 * 2; }

template <typename Shape>
using Products =
    typename Shape::Real[Shape::kColumns / kFragmentColumns][kFragmentElements];

// Calls `work(fragment, element, half, column)` for each of the lane's products.
template <typename Shape, typename Work>
__device__ __forceinline__ void for_each_product(const Work& work) {
#pragma unroll
  for (int fragment = 0; fragment < Shape::kColumns / kFragmentColumns; ++fragment) {
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      work(fragment, element, element / 2,
           fragment * kFragmentColumns + column_of_lane() + element % 2);
    }
  }
}

template <typename Shape>
using RowSums =
    typename Shape::Real[Shape::kSliceDim / kFragmentColumns][kFragmentElements];

// The first of the running warp's rows, and of its slice's columns.
template <typename Shape>
__device__ __forceinline__ int first_row_of_warp() {
  return static_cast<int>(threadIdx.x) / (kWarpSize * Shape::kSlices) * kRowsOfWarp;
}
template <typename Shape>
__device__ __forceinline__ int first_column_of_slice() {
  return static_cast<int>(threadIdx.x) / kWarpSize % Shape::kSlices * Shape::kSliceDim;
}

// The lane's row of the tile: one in each half of its warp's rows.
template <typename Shape>
__device__ __forceinline__ int row_of_half(int half) {
  return first_row_of_warp<Shape>() + row_of_lane() + 8 * half;
}

// The sum over the four lanes that share a row, and the largest, where NaN counts as
// smaller than everything.
template <typename Value>
__device__ __forceinline__ Value sum_over_row(Value value) {
  return sum_over_lanes<2, 1>(value);
}

template <typename Real>
__device__ __forceinline__ Real largest_over_row(Real value) {
#pragma unroll
  for (int distance = 2; distance >= 1; distance /= 2) {
    const Real other = __shfl_xor_sync(kWholeWarp, value, distance);
    value = other > value || value != value ? other : value;
  }
  return value;
}

}  // namespace cuda
}  // namespace negative_cosine
