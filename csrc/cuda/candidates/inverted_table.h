// For each document the rows that drew it, sorted on the device from the caller's table
// or from `shuffle`'s draws. Host side.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"
#include "cuda/device/scratch.h"

namespace negative_cosine {
namespace cuda {

// Bytes of scratch, the result's included.
int64_t inverted_table_bytes(const LossParams& params);

// The rows of a document are in the order of the table, or of the permutations that
// drew it; dropped pairs are left out.
cudaError_t launch_invert_table(const LossParams& params, void* memory,
                                cudaStream_t stream, RowsOfDocs* rows_of_docs);

}  // namespace cuda
}  // namespace negative_cosine
