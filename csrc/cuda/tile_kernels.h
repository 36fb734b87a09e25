// The two kernels that work on tiles of neighbouring places: for the samplers `ring` and
// `all`. Host side.
//
// Compiled once for an element type (tiles_float32.cu and its like) and for each padded
// row length; these functions choose and launch.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"
#include "cuda/row_kernels.h"

namespace negative_cosine {
namespace cuda {

// What the device has for tiles.
struct TileDevice {
  int capability;        // 80 for 8.0
  int shared_bytes_max;  // of a block, when it asks for them
};

// Whether there is a tile kernel for these rows on the device: it has to hold a tile in a
// block's shared memory and the sums of its rows in registers.
bool has_tile_kernel(const LossParams& params, const TileDevice& device);

// As launch_forward_rows and launch_gradient_rows (row_kernels.h).
template <typename Storage>
cudaError_t launch_forward_tiles(const LossParams& params,
                                 const ForwardOutputs& outputs,
                                 const ForwardScratch& scratch,
                                 const TileDevice& device, cudaStream_t stream,
                                 int64_t* num_blocks);

template <typename Storage>
cudaError_t launch_gradient_tiles(const LossParams& params,
                                  const GradientArguments& arguments,
                                  const GradientScratch& scratch,
                                  const TileDevice& device, cudaStream_t stream);

}  // namespace cuda
}  // namespace negative_cosine
