// What the launches of all kernels of tiles have in common.
#pragma once

#include <cuda_runtime.h>

#include <initializer_list>

#include "cuda/device/alignment.h"
#include "cuda/device/launch.h"
#include "cuda/tiles/norms.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
int64_t tiles_of(const LossParams& params) {
  return (params.num_candidates + Shape::kRows - 1) / Shape::kRows;
}

inline RowAlignment row_alignment(const LossParams& params,
                                  std::initializer_list<const void*> others) {
  int copied_bytes = 16;
  while (copied_bytes > storage_size_of(params.data_type) &&
         !has_whole_packets(params, {params.query, params.doc}, copied_bytes)) {
    copied_bytes /= 2;
  }
  return {copied_bytes, copied_bytes == 16 && has_whole_packets(params, others)};
}

template <typename Factor, int kDim>
cudaError_t launch_doc_norms(const LossParams& params, void* inverse_norms,
                             const RowAlignment& alignment, cudaStream_t stream) {
  using Shape = TileShape<Factor, kDim, TileKind::kTall>;
  const int64_t blocks = (params.num_candidates + Shape::kTeams - 1) / Shape::kTeams;
  return launch_with_memory(doc_norms_kernel<Shape>, blocks, Shape::kThreads,
                            NormsMemory<Shape>::kBytes, stream, params, inverse_norms,
                            alignment);
}

}  // namespace cuda
}  // namespace negative_cosine
