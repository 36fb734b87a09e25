// The two kernels that work on tiles by warpgroups: for wide bands of 16-bit rows on
// Hopper. Host side.
//
// Compiled once for each element type, for compute capability 9.0 alone (sm_90a), and
// not at all in a build for other devices.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"
#include "cuda/device/scratch.h"
#include "cuda/tiles/kernels.h"

namespace negative_cosine {
namespace cuda {

// Whether the rows have such a kernel, the device runs it, and it pays: many candidates
// for each of many queries. Rounded weights need that, too (tiles/rounding.cuh).
template <typename Storage>
bool fits_warpgroups(const LossParams& params, const TileDevice& device);

// As launch_forward_tiles and launch_gradient_tiles, where they fit.
template <typename Storage>
cudaError_t launch_forward_warpgroups(const LossParams& params,
                                      const ForwardOutputs& outputs,
                                      const ForwardScratch& scratch,
                                      const TileDevice& device, cudaStream_t stream,
                                      int64_t* num_blocks);

template <typename Storage>
cudaError_t launch_gradient_warpgroups(const LossParams& params,
                                       const GradientArguments& arguments,
                                       const GradientScratch& scratch,
                                       const TileDevice& device, cudaStream_t stream);

}  // namespace cuda
}  // namespace negative_cosine
