// Launches of what needs every row: the reduced loss, the softmax over the batch, and
// the sum of the rows' coefficients. One block each, but several for many rows of a
// batch; host side.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"
#include "cuda/device/scratch.h"

namespace negative_cosine {
namespace cuda {

// Success where the current device has a kernel of this build.
cudaError_t find_kernel();

// Completes launch_forward_rows: writes the reduced loss from the blocks'
// partial sums and, under NormalizeOver::kBatch, every row's loss.
cudaError_t launch_finish_forward(const LossParams& params,
                                  const ForwardOutputs& outputs,
                                  const ForwardScratch& scratch, int64_t num_blocks,
                                  cudaStream_t stream);

// Writes sum_j a_j of core/formulas.h for NormalizeOver::kBatch. `parts` has room for
// kMostReductionBlocks numbers.
cudaError_t launch_coefficient_sum(const LossParams& params,
                                   const GradientArguments& arguments, double* parts,
                                   double* coefficient_sum, cudaStream_t stream);

}  // namespace cuda
}  // namespace negative_cosine
