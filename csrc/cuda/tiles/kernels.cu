// Chooses a tile's sizes and launches the kernels. Compiled once for each type that
// rows are multiplied as, NEGATIVE_COSINE_ELEMENT (cmake/cuda_kernels.cmake).
#include <initializer_list>

#include "cuda/device/alignment.h"
#include "cuda/device/launch.h"
#include "cuda/tiles/forward.cuh"
#include "cuda/tiles/gradient.cuh"
#include "cuda/tiles/kernels.h"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct ShapeTag {
  using type = Shape;
};

// The padded rows that there are kernels for: powers of two, and one length between the
// two longest. A tile of 16 rows and two panels of 16 fill the shared memory of an A100
// for rows of 3072 bytes (not of float64), and that of an H100 for 4096.
constexpr int kShortestRowBytes = 128;
constexpr int kLongestRowBytes = 4096;
constexpr int next_row_bytes(int row_bytes) {
  return row_bytes == 2048 ? 3072 : row_bytes == 3072 ? 4096 : 2 * row_bytes;
}

template <typename Shape>
constexpr int kSharedBytes =
    ForwardTileMemory<Shape>::kBytes > GradientTileMemory<Shape>::kBytes
        ? ForwardTileMemory<Shape>::kBytes
        : GradientTileMemory<Shape>::kBytes;

// Row lengths that have a tight shape, which fits where the usual one does not. float64
// has none: devices that need it have hardly any float64 units.
template <typename Factor>
constexpr bool has_tight_shape(int row_bytes) {
  return sizeof(StorageOf<Factor>) < 8 && (row_bytes == 512 || row_bytes == 1024);
}

// Calls `call` with a ShapeTag of the shortest padded row that holds one of `dim`
// elements, for devices of which a block gets `shared_bytes`; an error where it is too
// long for tiles.
template <typename Factor, int kRowBytes = kShortestRowBytes, typename Call>
cudaError_t with_tile_shape(int64_t dim, int shared_bytes, const Call& call) {
  if constexpr (kRowBytes > kLongestRowBytes) {
    return cudaErrorInvalidValue;
  } else {
    constexpr int kDim = kRowBytes / static_cast<int>(sizeof(StorageOf<Factor>));
    if (dim > kDim) {
      return with_tile_shape<Factor, next_row_bytes(kRowBytes)>(dim, shared_bytes,
                                                                call);
    }
    using Shape = TileShape<Factor, kDim>;
    if constexpr (has_tight_shape<Factor>(kRowBytes)) {
      if (kSharedBytes<Shape> > shared_bytes) {
        return call(ShapeTag<TileShape<Factor, kDim, true>>{});
      }
    }
    return call(ShapeTag<Shape>{});
  }
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

template <typename Shape>
int64_t tiles_of(const LossParams& params) {
  return (params.num_candidates + Shape::kRows - 1) / Shape::kRows;
}

template <typename Factor>
bool fits_tiles(const LossParams& params, int shared_bytes) {
  bool fits = false;
  with_tile_shape<Factor>(params.dim, shared_bytes, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    cudaFuncAttributes code;
    const cudaError_t error = cudaFuncGetAttributes(&code, forward_tiles_kernel<Shape>);
    if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
    fits = error == cudaSuccess && code.ptxVersion >= kTileCapability &&
           kSharedBytes<Shape> + static_cast<int>(code.sharedSizeBytes) <= shared_bytes;
    return error;
  });
  return fits;
}

template <typename Factor>
cudaError_t launch_forward_tiles(const LossParams& params,
                                 const ForwardOutputs& outputs,
                                 const ForwardScratch& scratch, int shared_bytes,
                                 cudaStream_t stream, int64_t* num_blocks) {
  const RowAlignment alignment = row_alignment(params, {outputs.query_direction});
  return with_tile_shape<Factor>(params.dim, shared_bytes, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    *num_blocks = tiles_of<Shape>(params);
    return launch_with_memory(forward_tiles_kernel<Shape>, *num_blocks, Shape::kThreads,
                              ForwardTileMemory<Shape>::kBytes, stream, params, outputs,
                              scratch, alignment,
                              static_cast<typename Shape::Real>(params.margin));
  });
}

template <typename Factor>
cudaError_t launch_gradient_tiles(const LossParams& params,
                                  const GradientArguments& arguments,
                                  const GradientScratch& scratch, int shared_bytes,
                                  cudaStream_t stream) {
  const RowAlignment alignment = row_alignment(
      params,
      {arguments.query_direction, arguments.query_gradient, arguments.doc_gradient});
  return with_tile_shape<Factor>(params.dim, shared_bytes, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    return launch_with_memory(gradient_tiles_kernel<Shape>, tiles_of<Shape>(params) + 1,
                              Shape::kThreads, GradientTileMemory<Shape>::kBytes,
                              stream, params, arguments, scratch, alignment,
                              static_cast<typename Shape::Real>(params.margin));
  });
}

template bool fits_tiles<NEGATIVE_COSINE_ELEMENT>(const LossParams&, int);
template cudaError_t launch_forward_tiles<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const ForwardOutputs&, const ForwardScratch&, int, cudaStream_t,
    int64_t*);
template cudaError_t launch_gradient_tiles<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const GradientArguments&, const GradientScratch&, int,
    cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
