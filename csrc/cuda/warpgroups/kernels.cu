// Chooses a tile's rows and launches the kernels. Compiled once for each element type,
// NEGATIVE_COSINE_ELEMENT (cmake/cuda_kernels.cmake).
#include <algorithm>

#include "cuda/device/alignment.h"
#include "cuda/device/kernel_facts.h"
#include "cuda/device/launch.h"
#include "cuda/warpgroups/forward.cuh"
#include "cuda/warpgroups/gradient.cuh"
#include "cuda/warpgroups/kernels.h"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct ShapeTag {
  using type = Shape;
};

template <typename Shape>
constexpr int kForwardBytes =
    kWarpgroupBytes<Shape, ForwardTileMemory<Shape, NeighbouringPlaces<Shape>>>;
template <typename Shape>
constexpr int kGradientBytes = kWarpgroupBytes<Shape, GradientTileMemory<Shape, false>>;

template <typename Shape>
int64_t turns_of_device(const LossParams& params, const TileDevice& device) {
  return (tiles_of<Shape>(params) + device.multiprocessors - 1) /
         device.multiprocessors;
}

// Tiles of 128 rows meet each panel with more of them, but there are half as many,
// which take twice as long: a tile of 64 where that leaves fewer multiprocessors idle.
template <typename Storage, int kDim, typename Call>
cudaError_t with_tile_rows(const LossParams& params, const TileDevice& device,
                           const Call& call) {
  using Tall = WarpgroupShape<Storage, kDim, 2 * kRowsOfWarpgroup>;
  using Low = WarpgroupShape<Storage, kDim, kRowsOfWarpgroup>;
  if (turns_of_device<Low>(params, device) <
      2 * turns_of_device<Tall>(params, device)) {
    return call(ShapeTag<Low>{});
  }
  return call(ShapeTag<Tall>{});
}

// Calls `call` with a ShapeTag for rows padded to 64, 128 or 256 elements; an error
// where they are longer.
template <typename Storage, typename Call>
cudaError_t with_warpgroup_shape(const LossParams& params, const TileDevice& device,
                                 const Call& call) {
  if (params.dim <= 64) return with_tile_rows<Storage, 64>(params, device, call);
  if (params.dim <= 128) return with_tile_rows<Storage, 128>(params, device, call);
  if (params.dim <= 256) return with_tile_rows<Storage, 256>(params, device, call);
  return cudaErrorInvalidValue;
}

template <typename Storage>
bool fits_warpgroups(const LossParams& params, const TileDevice& device) {
  // By calculation: fewer candidates are met sooner by warps of their own, as a panel
  // has up to 128 columns, and few weights do not even out what rounding costs.
  constexpr int64_t kFewestCandidates = 256;
  constexpr int64_t kFewestQueries = 256;
  constexpr int64_t kFewestElements = 32;
  constexpr int kCapability = 90;
  if (device.capability != kCapability || params.num_negatives < kFewestCandidates ||
      params.batch_size < kFewestQueries || params.dim < kFewestElements ||
      params.normalize_over == NormalizeOver::kBatch ||
      !has_whole_packets(params, {params.query, params.doc})) {
    return false;
  }
  // Of a ring most of whose places have no query, tiles find those that have one.
  if (params.sampler == Sampler::kRing &&
      params.num_candidates * 3 > params.batch_size * 4) {
    return false;
  }
  bool fits = false;
  with_warpgroup_shape<Storage>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    constexpr int kBytes = std::max(kForwardBytes<Shape>, kGradientBytes<Shape>);
    cudaFuncAttributes code;
    const cudaError_t error = find_attributes(forward_warpgroups_kernel<Shape>, &code);
    if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
    fits = error == cudaSuccess &&
           kBytes + static_cast<int>(code.sharedSizeBytes) <= device.shared_bytes;
    return error;
  });
  return fits;
}

template <typename Storage>
cudaError_t launch_forward_warpgroups(const LossParams& params,
                                      const ForwardOutputs& outputs,
                                      const ForwardScratch& scratch,
                                      const TileDevice& device, cudaStream_t stream,
                                      int64_t* num_blocks) {
  const RowAlignment alignment = row_alignment(params, {outputs.query_direction});
  return with_warpgroup_shape<Storage>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    const cudaError_t error =
        launch_doc_norms<Storage>(params, outputs.doc_inverse_norm, device, stream);
    if (error != cudaSuccess) return error;
    *num_blocks = tiles_of<Shape>(params);
    return launch_with_memory(forward_warpgroups_kernel<Shape>, *num_blocks,
                              Shape::kThreads, kForwardBytes<Shape>, stream, params,
                              outputs, scratch, alignment,
                              static_cast<typename Shape::Real>(params.margin));
  });
}

template <typename Storage>
cudaError_t launch_gradient_warpgroups(const LossParams& params,
                                       const GradientArguments& arguments,
                                       const GradientScratch& scratch,
                                       const TileDevice& device, cudaStream_t stream) {
  const RowAlignment alignment = row_alignment(
      params,
      {arguments.query_direction, arguments.query_gradient, arguments.doc_gradient});
  return with_warpgroup_shape<Storage>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    return launch_with_memory(
        gradient_warpgroups_kernel<Shape>, tiles_of<Shape>(params) + 1, Shape::kThreads,
        kGradientBytes<Shape>, stream, params, arguments, scratch, alignment,
        static_cast<typename Shape::Real>(params.margin));
  });
}

template bool fits_warpgroups<NEGATIVE_COSINE_ELEMENT>(const LossParams&,
                                                       const TileDevice&);
template cudaError_t launch_forward_warpgroups<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const ForwardOutputs&, const ForwardScratch&, const TileDevice&,
    cudaStream_t, int64_t*);
template cudaError_t launch_gradient_warpgroups<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const GradientArguments&, const GradientScratch&,
    const TileDevice&, cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
