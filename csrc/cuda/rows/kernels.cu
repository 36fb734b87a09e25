// Chooses how a warp holds a row and launches the kernels. Compiled once for each
// element type, NEGATIVE_COSINE_ELEMENT (cmake/cuda_kernels.cmake).
#include <algorithm>
#include <limits>

#include "cuda/device/alignment.h"
#include "cuda/device/launch.h"
#include "cuda/rows/forward.cuh"
#include "cuda/rows/gradient.cuh"
#include "cuda/rows/kernels.h"
#include "cuda/rows/register.cuh"
#include "cuda/rows/streamed.cuh"

namespace negative_cosine {
namespace cuda {

template <typename Rows>
struct RowsTag {
  using type = Rows;
};

// Calls `call` with a RowsTag of the narrowest rows in registers that hold a row of
// whole packets.
template <typename Storage, typename Call>
cudaError_t with_register_rows(int64_t packets, const Call& call) {
  using Vector = VectorPacket<Storage>;
  if (packets <= 8) return call(RowsTag<RegisterRows<Vector, 8, 1>>{});
  if (packets <= 16) return call(RowsTag<RegisterRows<Vector, 16, 1>>{});
  if (packets <= 32) return call(RowsTag<RegisterRows<Vector, 32, 1>>{});
  if (packets <= 64) return call(RowsTag<RegisterRows<Vector, 32, 2>>{});
  if (packets <= 128) return call(RowsTag<RegisterRows<Vector, 32, 4>>{});
  // 32 elements a lane are four packets of 16-bit elements, and eight of others.
  constexpr int kMost = sizeof(Storage) == 2 ? 4 : 8;
  constexpr int kWarps = kMostWarpsPerBlock;
  if constexpr (kMost > 4) {
    if (packets <= 256) return call(RowsTag<RegisterRows<Vector, 32, kMost>>{});
  }
  if (packets <= kWarps * 32 * kMost / 2) {
    return call(RowsTag<RegisterRows<Vector, 32, kMost / 2, kWarps>>{});
  }
  return call(RowsTag<RegisterRows<Vector, 32, kMost, kWarps>>{});
}

// The warps that are needed to hold a row of whole packets in registers, at 32 elements
// and eight packets a lane; if a block has fewer, the row does not fit.
inline int64_t warps_of_row(const LossParams& params) {
  const int64_t size = params.dim * storage_size_of(params.data_type);
  return std::max((params.dim + 1023) / 1024, (size + 4095) / 4096);
}

// Rows in pieces have kernels of their own, which only the lengths in use are worth:
// 1024 elements of 16 bits are 2 KiB.
constexpr int64_t kMostPacketsInPieces = 128;

template <typename Storage, typename Call>
cudaError_t with_rows_in_pieces(int64_t packets, const Call& call) {
  using Packet = PiecePacket<Storage>;
  if (packets <= 8) return call(RowsTag<RegisterRows<Packet, 8, 1>>{});
  if (packets <= 16) return call(RowsTag<RegisterRows<Packet, 16, 1>>{});
  if (packets <= 32) return call(RowsTag<RegisterRows<Packet, 32, 1>>{});
  if (packets <= 64) return call(RowsTag<RegisterRows<Packet, 32, 2>>{});
  if (packets <= kMostPacketsInPieces) {
    return call(RowsTag<RegisterRows<Packet, 32, 4>>{});
  }
  return call(RowsTag<StreamedRows<ScalarPacket<Storage>>>{});
}

template <typename Storage, typename Call>
cudaError_t with_rows(const LossParams& params, int piece_bytes, const Call& call) {
  using Vector = VectorPacket<Storage>;
  const int64_t packets = (params.dim + Vector::kElements - 1) / Vector::kElements;
  if (piece_bytes < 16) return with_rows_in_pieces<Storage>(packets, call);
  if (warps_of_row(params) > kMostWarpsPerBlock) {
    return call(RowsTag<StreamedRows<Vector>>{});
  }
  return with_register_rows<Storage>(packets, call);
}

template <typename Rows>
RowGrid grid_of(const LossParams& params, int multiprocessors) {
  const int64_t most_rows =
      Rows::kNeedsSumMemory ? kStreamedWarps : std::numeric_limits<int64_t>::max();
  return row_grid(params.num_candidates, most_rows, kMostWarpsPerBlock / Rows::kWarps,
                  multiprocessors);
}

// So many blocks as run at the same time, each of which takes several rows: what a
// block finds once, the keys of the draws, is then found once for all of them. On an
// H100 the forward pass is faster by it from 4096 rows on, most where K is small. The
// gradient pass is not: more of its blocks than run at once even out what its rows
// take.
template <typename Rows>
RowGrid forward_grid_of(const LossParams& params, int multiprocessors) {
  RowGrid grid = grid_of<Rows>(params, multiprocessors);
  const int most_rows = kMostWarpsPerBlock / Rows::kWarps;
  const int64_t at_once = int64_t{multiprocessors} * Rows::kBlocksPerMultiprocessor *
                          most_rows / grid.rows_per_block;
  grid.blocks = std::min(grid.blocks, at_once);
  return grid;
}

template <typename Rows>
RowSettings<typename Rows::Real> settings_of(const LossParams& params,
                                             int piece_bytes) {
  return {static_cast<typename Rows::Real>(params.margin), piece_bytes,
          feistel_shape(params.num_candidates)};
}

template <typename Storage>
cudaError_t launch_forward_rows(const LossParams& params, const ForwardOutputs& outputs,
                                const ForwardScratch& scratch, int multiprocessors,
                                cudaStream_t stream, int64_t* num_blocks) {
  const int piece_bytes =
      widest_piece(params, {params.query, params.doc}, outputs.query_direction);
  return with_rows<Storage>(params, piece_bytes, [&](auto tag) {
    using Rows = typename decltype(tag)::type;
    const RowGrid grid = forward_grid_of<Rows>(params, multiprocessors);
    *num_blocks = grid.blocks;
    return launch(forward_rows_kernel<Rows>, grid.blocks,
                  grid.rows_per_block * Rows::kWarps * kWarpSize, stream, params,
                  outputs, scratch, settings_of<Rows>(params, piece_bytes));
  });
}

template <typename Storage>
cudaError_t launch_gradient_rows(const LossParams& params,
                                 const GradientArguments& arguments,
                                 const GradientScratch& scratch, int multiprocessors,
                                 cudaStream_t stream) {
  const int piece_bytes = widest_piece(
      params,
      {params.query, params.doc, arguments.query_gradient, arguments.doc_gradient},
      arguments.query_direction);
  return with_rows<Storage>(params, piece_bytes, [&](auto tag) {
    using Rows = typename decltype(tag)::type;
    const RowGrid grid = grid_of<Rows>(params, multiprocessors);
    return launch(gradient_rows_kernel<Rows>, grid.blocks + 1,
                  grid.rows_per_block * Rows::kWarps * kWarpSize, stream, params,
                  arguments, scratch, settings_of<Rows>(params, piece_bytes));
  });
}

template cudaError_t launch_forward_rows<NEGATIVE_COSINE_ELEMENT>(const LossParams&,
                                                                  const ForwardOutputs&,
                                                                  const ForwardScratch&,
                                                                  int, cudaStream_t,
                                                                  int64_t*);
template cudaError_t launch_gradient_rows<NEGATIVE_COSINE_ELEMENT>(
    const LossParams&, const GradientArguments&, const GradientScratch&, int,
    cudaStream_t);

}  // namespace cuda
}  // namespace negative_cosine
