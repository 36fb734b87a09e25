// The scratch memory of the passes, as pointers for the kernels: layout.h divides it.
#pragma once

#include <cstdint>

namespace negative_cosine {
namespace cuda {

// StreamedRows (rows/streamed.cuh) keep a row of sums in global memory for each of
// their warps. At most this many run at once and take the rows in turn.
constexpr int64_t kStreamedWarps = 2048;

// What needs every row of a batch, in at most so many blocks.
constexpr int64_t kMostReductionBlocks = 256;

struct ForwardScratch {
  double* block_losses;  // [C]: a block's part of the loss; a block has a row or more
  // [3, kMostReductionBlocks] for NormalizeOver::kBatch
  double* reduction_parts = nullptr;
};

// The rows that drew each document; null where permutations are inverted.
struct RowsOfDocs {
  const int64_t* starts = nullptr;  // [C + 1]
  const int32_t* rows = nullptr;
};

struct GradientScratch {
  const double* coefficient_sum;  // for NormalizeOver::kBatch
  void* sums;                     // Real [min(kStreamedWarps, C), D] for StreamedRows
  RowsOfDocs rows_of_docs;
};

}  // namespace cuda
}  // namespace negative_cosine
