// The scratch memory of the passes: how it is divided (a Layout, in bytes) and what the
// kernels get of it (a Scratch, in pointers).
#pragma once

#include <cstdint>

#include "core/params.h"

namespace negative_cosine {
namespace cuda {

// StreamedRows (rows/streamed.cuh) keep a row of sums in global memory for each of
// their warps. At most this many run at once and take the rows in turn.
constexpr int64_t kStreamedWarps = 2048;

// The forward pass's whole scratch is one array.
struct ForwardLayout {
  explicit ForwardLayout(const LossParams& params);

  int64_t total;
};

struct ForwardScratch {
  double* block_losses;  // [C]: a block's part of the loss; a block has a row or more
};

// The gradient pass's parts, one behind the other.
struct GradientLayout {
  explicit GradientLayout(const LossParams& params);

  int64_t sums_offset = 256;  // behind the sum of the coefficients
  int64_t table_offset;
  int64_t total;
};

// The rows that drew each document; null for a sampler, which computes them.
struct RowsOfDocs {
  const int64_t* starts = nullptr;  // [C + 1]
  const int32_t* rows = nullptr;
};

struct GradientScratch {
  const double* coefficient_sum;  // for NormalizeOver::kBatch
  void* sums;                     // Real [min(kStreamedWarps, C), D] for StreamedRows
  RowsOfDocs rows_of_docs;
};

// Whether the gradient pass inverts the caller's table.
bool needs_rows_of_docs(const LossParams& params);

}  // namespace cuda
}  // namespace negative_cosine
