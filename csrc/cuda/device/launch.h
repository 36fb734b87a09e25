// Launches: the shape of a grid from the device's properties, and the launch itself.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "core/portability.h"
#include "cuda/device/kernel_facts.h"

namespace negative_cosine {
namespace cuda {

// The grid of a kernel in which a warp or a block takes a row, and further ones where
// there are more rows than fit at once.
struct RowGrid {
  int64_t blocks;
  int rows_per_block;
};

// Few rows get small blocks, so that every multiprocessor has some of them.
inline RowGrid row_grid(int64_t rows, int64_t most_rows, int most_rows_per_block,
                        int multiprocessors) {
  int rows_per_block = most_rows_per_block;
  while (rows_per_block > 1 && rows < int64_t{2} * multiprocessors * rows_per_block) {
    rows_per_block /= 2;
  }
  const int64_t at_once = std::min(rows, most_rows);
  return {round_up(at_once, rows_per_block) / rows_per_block, rows_per_block};
}

// The shared memory that a block gets without its kernel having asked for more.
constexpr int kFreeSharedBytes = 48 * 1024;

template <typename... Parameters, typename... Arguments>
cudaError_t launch_with_memory(void (*kernel)(Parameters...), int64_t blocks,
                               int threads, int shared_bytes, cudaStream_t stream,
                               Arguments&&... arguments) {
  if (blocks > std::numeric_limits<int32_t>::max()) {
    return cudaErrorInvalidConfiguration;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kFreeSharedBytes) {
    error = allow_shared_memory(kernel, shared_bytes);
  }
  if (error == cudaSuccess) {
    error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  }
  if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
  return error;
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads,
                   cudaStream_t stream, Arguments&&... arguments) {
  return launch_with_memory(kernel, blocks, threads, 0, stream,
                            std::forward<Arguments>(arguments)...);
}

}  // namespace cuda
}  // namespace negative_cosine
