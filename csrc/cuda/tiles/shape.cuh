// The sizes of a tile: its own rows, which a block holds in shared memory, the panels
// of rows that they are multiplied with, and how the block's warps share the work.
//
// A warp takes 16 rows of the tile and some columns of each panel. Warps with the
// same rows and other columns are groups: each sums what it has met, and their sums are
// added up at the end (groups.cuh). Long rows are cut into slices besides: the warps of
// the slices have the same rows and the same columns (slices.cuh).
#pragma once

#include <type_traits>

#include "core/params.h"
#include "cuda/device/element_types.h"
#include "cuda/device/shared_arrays.cuh"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

constexpr int kRowsOfWarp = 16;  // of a matrix, as the tensor cores take them

// How many rows a tile has, and its warps. Tall tiles meet each panel with many rows,
// but there are few of them: middle and flat ones are for batches that would leave
// multiprocessors idle, twin ones, of which two share a multiprocessor, for those that
// have several tiles for each. Tight ones are for devices on which a block gets at most
// 99 KiB of shared memory (capabilities 8.6, 8.9 and 12.0).
enum class TileKind { kTall, kFlat, kTight, kMiddle, kTwin };

// The number of slices into which rows are cut, so that a lane's sums of a slice take
// at most `most_bytes`: a power of two, so that the threads of a block share its rows
// evenly.
constexpr int slices_of(int sum_bytes, int most_bytes) {
  int slices = 1;
  while (sum_bytes > slices * most_bytes) slices *= 2;
  return slices;
}

template <typename FactorType, int kPaddedDim, TileKind kKind>
struct TileShape {
  using Factor = FactorType;  // what is multiplied: Storage, or Tf32
  using Storage = StorageOf<Factor>;
  using Real = ComputeType<Storage>;
  static constexpr bool kIsTight = kKind == TileKind::kTight;
  static constexpr bool kIsFlat = kKind == TileKind::kFlat;
  static constexpr bool kIsMiddle = kKind == TileKind::kMiddle;
  static constexpr bool kIsTwin = kKind == TileKind::kTwin;
  static constexpr bool kIsOfWarpgroups = false;  // but warpgroups/shape.cuh
  static constexpr bool kRoundsWeights = false;   // to one 16-bit number: rounding.cuh
  static constexpr int kDim = kPaddedDim;
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Storage));

  // The sums of its rows stay in a warp's registers, which are 1020 bytes a lane. They
  // get half of it, or a quarter where plain arithmetic also holds packets of long rows
  // there. Where a quarter is enough anyway, sixteen warps share a multiprocessor's
  // registers, else eight.
  static constexpr int kSumBytes =
      kDim * kRowsOfWarp / kWarpSize * static_cast<int>(sizeof(Real));
  static constexpr int kSumBytesOfLane =
      sizeof(Storage) < 4 || kRowBytes <= 512 ? 512 : 256;
  static constexpr bool kHasGroups = sizeof(Real) == 4 && kRowBytes <= 512;
  static constexpr bool kHasSixteenWarps = kHasGroups && kSumBytes <= 256;
  static constexpr int kSlices = slices_of(kSumBytes, kSumBytesOfLane);
  static constexpr int kSliceDim = kDim / kSlices;

  // Fewer columns where shared memory is short, and where float64 products would not
  // leave enough registers.
  static constexpr bool kIsNarrow = kIsFlat || kRowBytes > 1024 || sizeof(Real) == 8 ||
                                    (kIsTight && kRowBytes > 256) ||
                                    (kRowBytes == 512 && sizeof(Storage) == 4);
  static constexpr int kColumnsOfWarp = kIsNarrow ? 16 : 32;
  static constexpr int kGroups = kIsFlat                         ? 8
                                 : !kHasGroups                   ? 1
                                 : kIsTight || kIsTwin           ? 2
                                 : kIsMiddle || kHasSixteenWarps ? 4
                                                                 : 2;
  // The rows of a panel, which are the columns of the products.
  static constexpr int kColumns = kGroups * kColumnsOfWarp;

  static constexpr int kRows = kIsFlat                                 ? kRowsOfWarp
                               : kIsMiddle                             ? 2 * kRowsOfWarp
                               : kRowBytes <= 512                      ? 64
                               : kRowBytes <= (kIsTight ? 1024 : 2048) ? 2 * kColumns
                                                                       : 16;
  static constexpr int kWarps = kRows / kRowsOfWarp * kGroups * kSlices;
  static constexpr int kThreads = kWarps * kWarpSize;
  // Blocks that share a multiprocessor: what its registers and shared memory allow. Of
  // 32 rounded rows of 1536 bytes two fit an H100's.
  static constexpr bool kSharesLongRows =
      std::is_same_v<Factor, Tf32> && kRowBytes == 1536;
  static constexpr int kBlocks = kIsTwin || kSharesLongRows || kThreads < 256 ? 2 : 1;
  static constexpr int kPacket = 16 / static_cast<int>(sizeof(Storage));
  // A packet more than whole rows of banks: eight rows' packets then lie in eight
  // different groups of banks.
  static constexpr int kStride = kDim + kPacket;
  // Threads that copy and prepare a row together, of which eight read whole rows of
  // banks.
  static constexpr int kThreadsOfRow =
      kThreads / kColumns < 8 ? 8 : kThreads / kColumns;
  static constexpr int kTeams = kThreads / kThreadsOfRow;
  static constexpr int kFirstThreadOfTeams = 0;
  static constexpr int kStages = 2;         // panels in shared memory
  static constexpr int kWindow = kThreads;  // places that they find together

  // A barrier of the threads that hold the tile's rows.
  __device__ __forceinline__ static void synchronise() { __syncthreads(); }

  static_assert(kGroups == 1 || kSlices == 1, "long rows have no groups");
  static_assert(kRowBytes % kSharedAlignment == 0, "no bank conflicts");
  static_assert(kColumns % kTeams == 0 && kThreads % kColumns == 0, "whole panels");
  static_assert(kRows % kColumns == 0 || kRows <= kColumns, "whole panels");
};

// How many tiles have all places.
template <typename Shape>
int64_t tiles_of(const LossParams& params) {
  return (params.num_candidates + Shape::kRows - 1) / Shape::kRows;
}

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

// --- The running warp ----------------------------------------------------------------

__device__ __forceinline__ int warp_of_thread() {
  return static_cast<int>(threadIdx.x) / kWarpSize;
}

// The first of its rows, of its columns of a panel, and of its slice's elements. The
// warps of a warpgroup have neighbouring rows, and are of one group.
template <typename Shape>
__device__ __forceinline__ int first_row_of_warp() {
  if constexpr (Shape::kIsOfWarpgroups) {
    return warp_of_thread() % (Shape::kRows / kRowsOfWarp) * kRowsOfWarp;
  }
  return warp_of_thread() / (Shape::kSlices * Shape::kGroups) * kRowsOfWarp;
}
template <typename Shape>
__device__ __forceinline__ int group_of_warp() {
  if constexpr (Shape::kIsOfWarpgroups) {
    return warp_of_thread() / (Shape::kRows / kRowsOfWarp);
  }
  return warp_of_thread() / Shape::kSlices % Shape::kGroups;
}
// Whether it has rows at all: in a block of warpgroups some warps only copy.
template <typename Shape>
__device__ __forceinline__ bool has_rows_of_tile() {
  return !Shape::kIsOfWarpgroups || warp_of_thread() < Shape::kWarps;
}
template <typename Shape>
__device__ __forceinline__ int first_column_of_warp() {
  return group_of_warp<Shape>() * Shape::kColumnsOfWarp;
}
template <typename Shape>
__device__ __forceinline__ int slice_of_warp() {
  return warp_of_thread() % Shape::kSlices;
}
template <typename Shape>
__device__ __forceinline__ int first_element_of_slice() {
  return slice_of_warp<Shape>() * Shape::kSliceDim;
}

// --- The running lane ----------------------------------------------------------------

// A fragment: the elements that a lane holds of 16 rows and 8 columns, as the tensor
// cores distribute them. With g = lane / 4 and q = lane % 4, element 2 h + j is in row
// g + 8 h and column 2 q + j. So a lane has two of its warp's rows, one in each half,
// and numbers them so.
constexpr int kFragmentColumns = 8;
constexpr int kFragmentElements = 4;
constexpr int kRowsOfLane = 2;

__device__ __forceinline__ int row_of_lane() { return lane_of_thread() / 4; }
__device__ __forceinline__ int column_of_lane() { return lane_of_thread() % 4 * 2; }

__device__ __forceinline__ int row_in_warp(int row) { return row * 8 + row_of_lane(); }
template <typename Shape>
__device__ __forceinline__ int row_in_tile(int row) {
  return first_row_of_warp<Shape>() + row_in_warp(row);
}

// Calls `work(row)` for each of the lane's rows.
template <typename Work>
__device__ __forceinline__ void for_each_row_of_lane(const Work& work) {
#pragma unroll
  for (int row = 0; row < kRowsOfLane; ++row) work(row);
}

template <typename Shape>
constexpr int kFragments = Shape::kColumnsOfWarp / kFragmentColumns;
template <typename Shape>
using Products = typename Shape::Real[kFragments<Shape>][kFragmentElements];

// Calls `work(fragment, element, half, column)` for each of the lane's products, with
// the column of the warp's.
template <typename Shape, typename Work>
__device__ __forceinline__ void for_each_product(const Work& work) {
#pragma unroll
  for (int fragment = 0; fragment < kFragments<Shape>; ++fragment) {
#pragma unroll
    for (int element = 0; element < kFragmentElements; ++element) {
      work(fragment, element, element / 2,
           fragment * kFragmentColumns + column_of_lane() + element % 2);
    }
  }
}

// The weighted sums of the rows, likewise.
template <typename Shape>
constexpr int kSumFragments = Shape::kSliceDim / kFragmentColumns;
template <typename Shape>
using RowSums = typename Shape::Real[kSumFragments<Shape>][kFragmentElements];

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
