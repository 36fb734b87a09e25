// The two kernels that do the work: a warp, or a block, for each row. Host side.
//
// Each is compiled once for an element type (rows_float32.cu and its like) and for each
// way to hold a row (rows.cuh); these functions choose and launch.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "core/params.h"
#include "cuda/candidates/candidates.cuh"

namespace negative_cosine {
namespace cuda {

// A launch's blocks write one partial sum of the loss each: at most one a row.
struct ForwardScratch {
  double* block_losses;  // [C]
};

struct GradientScratch {
  const double* coefficient_sum;  // for NormalizeOver::kBatch
  void* sums;                     // Real [most_streamed_rows, D] for StreamedRows
  RowsOfDocs rows_of_docs;
};

// A warp takes a row, or a block where the row is long.
constexpr int kMostWarpsPerBlock = 4;

// StreamedRows sum in memory: so many warps take turns.
constexpr int64_t kStreamedWarps = 2048;

inline int64_t most_streamed_rows(const LossParams& params) {
  return std::min(kStreamedWarps, params.num_candidates);
}

// Whether rows are whole packets, in every one of the arrays.
inline bool has_whole_packets(const LossParams& params,
                              std::initializer_list<const void*> arrays,
                              int packet_bytes = 16) {
  const auto size = static_cast<uintptr_t>(packet_bytes);
  bool whole = params.dim * storage_size_of(params.data_type) % packet_bytes == 0;
  for (const void* array : arrays) {
    whole = whole && reinterpret_cast<uintptr_t>(array) % size == 0;
  }
  return whole;
}

// The warps that it takes to hold a row of whole packets in registers, at 32 elements
// and eight packets a lane; more than a block has means that it does not fit.
inline int64_t warps_of_row(const LossParams& params) {
  const int64_t size = params.dim * storage_size_of(params.data_type);
  return std::max((params.dim + 1023) / 1024, (size + 4095) / 4096);
}

// `num_blocks` gets the number of partial sums written.
template <typename Storage>
cudaError_t launch_forward_rows(const LossParams& params, const ForwardOutputs& outputs,
                                const ForwardScratch& scratch, int multiprocessors,
                                cudaStream_t stream, int64_t* num_blocks);

template <typename Storage>
cudaError_t launch_gradient_rows(const LossParams& params,
                                 const GradientArguments& arguments,
                                 const GradientScratch& scratch, int multiprocessors,
                                 cudaStream_t stream);

}  // namespace cuda
}  // namespace negative_cosine
