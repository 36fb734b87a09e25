// Chooses a tile's sizes and launches the kernels. Compiled once for each type that
// rows are multiplied as, NEGATIVE_COSINE_ELEMENT (cmake/cuda_kernels.cmake).
#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda/device/alignment.h"
#include "cuda/device/kernel_facts.h"
#include "cuda/device/launch.h"
#include "cuda/tiles/forward.cuh"
#include "cuda/tiles/gradient.cuh"
#include "cuda/tiles/kernels.h"
#include "cuda/tiles/norms.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Shape>
struct ShapeTag {
  using type = Shape;
};

// The padded rows that there are kernels for: powers of two, and one length between
// each two of the longer ones. A tile of 16 rows and two panels of 16 fill the shared
// memory of an A100 for rows of 3072 bytes (not of float64), and that of an H100 for
// 4096.
constexpr int kShortestRowBytes = 128;
constexpr int kLongestRowBytes = 4096;
constexpr int next_row_bytes(int row_bytes) {
  const bool is_power = (row_bytes & (row_bytes - 1)) == 0;
  if (!is_power) return row_bytes / 3 * 4;
  return row_bytes < 512 ? 2 * row_bytes : row_bytes / 2 * 3;
}

template <typename Shape>
constexpr int kForwardBytes =
    ForwardTileMemory<Shape, NeighbouringPlaces<Shape>>::kBytes;
template <typename Shape>
constexpr int kGradientBytes = GradientTileMemory<Shape, false>::kBytes;
template <typename Shape>
constexpr int kSharedBytes = std::max(kForwardBytes<Shape>, kGradientBytes<Shape>);

// What a block may have on the devices that this is compiled for, the least and the
// most of them: tiles that none could run are not compiled
// (cmake/cuda_architectures.cmake). Where that is not known, all are.
#ifdef NEGATIVE_COSINE_MOST_SHARED_BYTES
constexpr int kLeastOfDevices = NEGATIVE_COSINE_LEAST_SHARED_BYTES;
constexpr int kMostOfDevices = NEGATIVE_COSINE_MOST_SHARED_BYTES;
#else
constexpr int kLeastOfDevices = 0;
constexpr int kMostOfDevices = std::numeric_limits<int>::max();
#endif

// Of these the usual tile is too large for some devices, and there is no twin. float64
// has one kind of tile: it is limited by its units, of which most devices have hardly
// any.
template <typename Tall>
constexpr bool has_tight_shape() {
  return sizeof(typename Tall::Real) == 4 && Tall::kRowBytes >= 256 &&
         Tall::kRowBytes <= 1024 && !Tall::kHasSixteenWarps &&
         kSharedBytes<Tall> > kLeastOfDevices;
}

// Whether some device can run such tiles, whether this one can, and whether all of them
// at the same time.
template <typename Shape>
constexpr bool kFitsSomeDevice = kSharedBytes<Shape> <= kMostOfDevices;
template <typename Shape>
bool fits_device(const TileDevice& device) {
  return kSharedBytes<Shape> <= device.shared_bytes;
}
template <typename Shape>
bool runs_at_once(const LossParams& params, const TileDevice& device) {
  return fits_device<Shape>(device) &&
         tiles_of<Shape>(params) <= device.multiprocessors;
}

// Calls `call` with a ShapeTag of the tile for rows of `kDim` elements.
template <typename Factor, int kDim, typename Call>
cudaError_t with_tile_kind(const LossParams& params, const TileDevice& device,
                           const Call& call) {
  using Tall = TileShape<Factor, kDim, TileKind::kTall>;
  if constexpr (Tall::kHasGroups) {
    using Flat = TileShape<Factor, kDim, TileKind::kFlat>;
    using Middle = TileShape<Factor, kDim, TileKind::kMiddle>;
    if (runs_at_once<Flat>(params, device)) return call(ShapeTag<Flat>{});
    if (runs_at_once<Middle>(params, device)) return call(ShapeTag<Middle>{});
    if constexpr (Tall::kHasSixteenWarps) {
      using Twin = TileShape<Factor, kDim, TileKind::kTwin>;
      if (!runs_at_once<Tall>(params, device) && fits_device<Twin>(device)) {
        return call(ShapeTag<Twin>{});
      }
    }
  }
  if constexpr (has_tight_shape<Tall>()) {
    if (!fits_device<Tall>(device)) {
      return call(ShapeTag<TileShape<Factor, kDim, TileKind::kTight>>{});
    }
  }
  if constexpr (kFitsSomeDevice<Tall>) {
    return call(ShapeTag<Tall>{});
  } else {
    return cudaErrorInvalidValue;  // fits_tiles() says so before a launch
  }
}

// Calls `call` with a ShapeTag of a tile whose padded rows are the shortest that hold
// the given ones; an error where they are too long for tiles.
template <typename Factor, int kRowBytes = kShortestRowBytes, typename Call>
cudaError_t with_tile_shape(const LossParams& params, const TileDevice& device,
                            const Call& call) {
  if constexpr (kRowBytes > kLongestRowBytes) {
    return cudaErrorInvalidValue;
  } else {
    constexpr int kDim = kRowBytes / static_cast<int>(sizeof(StorageOf<Factor>));
    if (params.dim > kDim) {
      return with_tile_shape<Factor, next_row_bytes(kRowBytes)>(params, device, call);
    }
    return with_tile_kind<Factor, kDim>(params, device, call);
  }
}

// Whether a kernel of its own for the documents' norms pays: with K candidates a
// document is met by K / kRows tiles besides its own, and the launch takes as long as
// to read some megabytes.
template <typename Shape>
bool finds_norms_first(const LossParams& params) {
  constexpr int64_t kBytesOfLaunch = int64_t{1} << 24;
  return params.num_negatives / Shape::kRows * params.num_candidates *
             Shape::kRowBytes >=
         kBytesOfLaunch;
}

// The kernels for gaps are for tiles of many rows: where flat or middle ones all run at
// once, empty rows cost nothing. Long rows have none: they are few, and take long to
// compile.
template <typename Shape>
constexpr bool kHasGapsKernels =
    kFitsSomeDevice<Shape> && Shape::kRowBytes <= 512 &&
    (Shape::kIsTwin ||
     !(Shape::kIsFlat || Shape::kIsMiddle || Shape::kHasSixteenWarps));

template <typename Shape>
constexpr int kForwardGapsBytes =
    ForwardTileMemory<Shape, PlacesOfQueries<Shape>>::kBytes;
template <typename Shape>
constexpr int kGradientGapsBytes = GradientTileMemory<Shape, true>::kBytes;

// Whether so many places of the ring have no query that it is worth to look for those
// that have one.
template <typename Shape>
bool takes_gaps(const LossParams& params, const TileDevice& device) {
  const int bytes = std::max(kForwardGapsBytes<Shape>, kGradientGapsBytes<Shape>);
  return params.sampler == Sampler::kRing &&
         params.num_candidates * 3 > params.batch_size * 4 &&
         !runs_at_once<Shape>(params, device) && bytes <= device.shared_bytes;
}

// A span is so long that its queries fill a tile, less two standard deviations of their
// number, n + 2 sqrt(n) = kRows: more are rare, and cost the block another turn. But
// all multiprocessors get some.
template <typename Shape>
int64_t span_of_tile(const LossParams& params, const TileDevice& device) {
  const double root = std::sqrt(Shape::kRows + 1.0) - 1;
  const auto docs = static_cast<double>(params.num_candidates);
  const double of_full_tile =
      root * root * docs / static_cast<double>(params.batch_size);
  const double of_block =
      std::ceil(docs / (double{Shape::kBlocks} * device.multiprocessors));
  return std::max(int64_t{1}, static_cast<int64_t>(std::min(of_full_tile, of_block)));
}

template <typename Factor>
bool fits_tiles(const LossParams& params, const TileDevice& device) {
  bool fits = false;
  with_tile_shape<Factor>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    cudaFuncAttributes code;
    const cudaError_t error = find_attributes(forward_tiles_kernel<Shape>, &code);
    if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
    fits = error == cudaSuccess && code.ptxVersion >= kTileCapability &&
           kSharedBytes<Shape> + static_cast<int>(code.sharedSizeBytes) <=
               device.shared_bytes;
    return error;
  });
  return fits;
}

template <typename Factor, int kDim>
cudaError_t launch_doc_norms_of(const LossParams& params, void* inverse_norms,
                                cudaStream_t stream) {
  using Shape = TileShape<Factor, kDim, TileKind::kTall>;
  const int64_t blocks = (params.num_candidates + Shape::kTeams - 1) / Shape::kTeams;
  return launch_with_memory(doc_norms_kernel<Shape>, blocks, Shape::kThreads,
                            NormsMemory<Shape>::kBytes, stream, params, inverse_norms,
                            row_alignment(params, {}));
}

template <typename Factor>
cudaError_t launch_doc_norms(const LossParams& params, void* inverse_norms,
                             const TileDevice& device, cudaStream_t stream) {
  return with_tile_shape<Factor>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    return launch_doc_norms_of<Factor, Shape::kDim>(params, inverse_norms, stream);
  });
}

template <typename Shape, typename Factor>
cudaError_t launch_forward_gaps(const LossParams& params, const ForwardOutputs& outputs,
                                const ForwardScratch& scratch,
                                const RowAlignment& alignment, const TileDevice& device,
                                cudaStream_t stream, int64_t* num_blocks) {
  const cudaError_t error = launch_doc_norms_of<Factor, Shape::kDim>(
      params, outputs.doc_inverse_norm, stream);
  if (error != cudaSuccess) return error;
  const int64_t span = span_of_tile<Shape>(params, device);
  *num_blocks = (params.num_candidates + span - 1) / span;
  return launch_with_memory(forward_gaps_kernel<Shape>, *num_blocks, Shape::kThreads,
                            kForwardGapsBytes<Shape>, stream, params, outputs, scratch,
                            alignment, static_cast<typename Shape::Real>(params.margin),
                            static_cast<uint32_t>(span));
}

template <typename Factor>
cudaError_t launch_forward_tiles(const LossParams& params,
                                 const ForwardOutputs& outputs,
                                 const ForwardScratch& scratch,
                                 const TileDevice& device, cudaStream_t stream,
                                 int64_t* num_blocks) {
  const RowAlignment alignment = row_alignment(params, {outputs.query_direction});
  return with_tile_shape<Factor>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    if constexpr (kHasGapsKernels<Shape>) {
      if (takes_gaps<Shape>(params, device)) {
        return launch_forward_gaps<Shape, Factor>(params, outputs, scratch, alignment,
                                                  device, stream, num_blocks);
      }
    }
    const bool norms_are_known = finds_norms_first<Shape>(params);
    if (norms_are_known) {
      const cudaError_t error = launch_doc_norms_of<Factor, Shape::kDim>(
          params, outputs.doc_inverse_norm, stream);
      if (error != cudaSuccess) return error;
    }
    *num_blocks = tiles_of<Shape>(params);
    return launch_with_memory(
        forward_tiles_kernel<Shape>, *num_blocks, Shape::kThreads, kForwardBytes<Shape>,
        stream, params, outputs, scratch, alignment,
        static_cast<typename Shape::Real>(params.margin), norms_are_known);
  });
}

template <typename Factor>
cudaError_t launch_gradient_tiles(const LossParams& params,
                                  const GradientArguments& arguments,
                                  const GradientScratch& scratch,
                                  const TileDevice& device, cudaStream_t stream) {
  const RowAlignment alignment = row_alignment(
      params,
      {arguments.query_direction, arguments.query_gradient, arguments.doc_gradient});
  return with_tile_shape<Factor>(params, device, [&](auto tag) {
    using Shape = typename decltype(tag)::type;
    const auto launch = [&](const auto& kernel, int bytes) {
      return launch_with_memory(kernel, tiles_of<Shape>(params) + 1, Shape::kThreads,
                                bytes, stream, params, arguments, scratch, alignment,
                                static_cast<typename Shape::Real>(params.margin));
    };
    if constexpr (kHasGapsKernels<Shape>) {
      if (takes_gaps<Shape>(params, device)) {
        return launch(gradient_gaps_kernel<Shape>, kGradientGapsBytes<Shape>);
      }
    }
    return launch(gradient_tiles_kernel<Shape>, kGradientBytes<Shape>);
  });
}

template bool fits_tiles<NEGATIVE_COSINE_ELEMENT>(const LossParams&, const TileDevice&);
template cudaError_t launch_doc_norms<NEGATIVE_COSINE_ELEMENT>(const LossParams&, void*,
                                                               const TileDevice&,
                                                               cudaStream_t);
template cudaError_t launch_forward_tiles<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const ForwardOutputs&, const ForwardScratch&, const TileDevice&,
    cudaStream_t, int64_t*);
template cudaError_t launch_gradient_tiles<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const GradientArguments&, const GradientScratch&,
    const TileDevice&, cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
