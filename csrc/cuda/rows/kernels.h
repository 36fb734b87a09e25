// Launches of the kernels in which a warp, or a block, takes a row. Host side.
//
// They are compiled once for each element type and each class that holds rows
// (rows.cuh); these functions choose and launch.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/params.h"
#include "cuda/device/scratch.h"

namespace negative_cosine {
namespace cuda {

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
