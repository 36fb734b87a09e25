// The two kernels that work on tiles of neighbouring places: for the samplers `ring`
// and `all`. Host side.
//
// Compiled once for each type that rows are multiplied as and for each padded row
// length; these functions choose and launch.
#pragma once

#include <cuda_runtime.h>

#include "core/params.h"
#include "cuda/device/scratch.h"

namespace negative_cosine {
namespace cuda {

// The first capability whose devices copy to shared memory on the side and multiply
// 16-bit matrices with float32 sums as these kernels ask for it.
constexpr int kTileCapability = 80;

// What a tile's sizes depend on.
struct TileDevice {
  int shared_bytes;  // that a block may have
  int multiprocessors;
  int capability;  // 90 for 9.0
};

// Whether rows of this length have a tile kernel, compiled for kTileCapability or later
// (a new device also runs code for older ones), whose blocks have room.
template <typename Factor>
bool fits_tiles(const LossParams& params, const TileDevice& device);

// The inverse norms of all documents, of rows that have a tile.
template <typename Factor>
cudaError_t launch_doc_norms(const LossParams& params, void* inverse_norms,
                             const TileDevice& device, cudaStream_t stream);

// As launch_forward_rows and launch_gradient_rows (rows/kernels.h), on a device where
// they fit.
template <typename Factor>
cudaError_t launch_forward_tiles(const LossParams& params,
                                 const ForwardOutputs& outputs,
                                 const ForwardScratch& scratch,
                                 const TileDevice& device, cudaStream_t stream,
                                 int64_t* num_blocks);

template <typename Factor>
cudaError_t launch_gradient_tiles(const LossParams& params,
                                  const GradientArguments& arguments,
                                  const GradientScratch& scratch,
                                  const TileDevice& device, cudaStream_t stream);

}  // namespace cuda
}  // namespace negative_cosine
