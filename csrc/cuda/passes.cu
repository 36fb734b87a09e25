// The forward and gradient passes on a GPU: which kernels are launched, in which order.
//
// Without options a training step is three launches: the rows forward, the sum of their
// losses, and the gradient of all rows.
#include <cuda_runtime.h>

#include "cuda/candidates/inverted_table.h"
#include "cuda/device/element_types.h"
#include "cuda/device/kernel_facts.h"
#include "cuda/device/scratch.h"
#include "cuda/device_status.h"
#include "cuda/layout.h"
#include "cuda/passes.h"
#include "cuda/reductions.h"
#include "cuda/rows/kernels.h"
#include "cuda/tiles/kernels.h"
#include "cuda/warpgroups/kernels.h"
#include "cuda/warpgroups/switch.h"

namespace negative_cosine {
namespace cuda {
namespace {

struct DeviceWithSwitch : Device {
  bool allows_warpgroups = false;
};

Status find_device(DeviceWithSwitch* device) {
  if (Status status = find_warpgroups_switch(&device->allows_warpgroups);
      !status.ok()) {
    return status;
  }
  return find_device(static_cast<Device*>(device));
}

TileDevice tile_device(const Device& device) {
  return {device.shared_bytes, device.multiprocessors, device.capability};
}

// Which kernels take the rows: a row at a time, tiles where candidates lie side by side
// and the device can take them so, and tiles by warpgroups where those were asked for.
enum class Way { kRows, kTiles, kWarpgroups };

template <typename Factor>
constexpr bool kHasWarpgroups = false;
#ifdef NEGATIVE_COSINE_WARPGROUPS
template <>
constexpr bool kHasWarpgroups<Float16> = true;
template <>
constexpr bool kHasWarpgroups<BFloat16> = true;
#endif

template <typename Factor>
Way way_of(const LossParams& params, const DeviceWithSwitch& device) {
  const TileDevice of_tiles = tile_device(device);
  if (params.negative_indices != nullptr || params.sampler == Sampler::kShuffle) {
    return Way::kRows;
  }
  if constexpr (kHasWarpgroups<Factor>) {
    if (device.allows_warpgroups && fits_warpgroups<Factor>(params, of_tiles)) {
      return Way::kWarpgroups;
    }
  }
  return fits_tiles<Factor>(params, of_tiles) ? Way::kTiles : Way::kRows;
}

// Calls `call` with an element of the type that the rows are multiplied as.
template <typename Call>
void with_factor_type(const LossParams& params, const Call& call) {
  if (params.data_type == DataType::kFloat32 && params.allow_tf32) return call(Tf32{});
  with_storage_type(params.data_type, call);
}

template <typename Factor>
cudaError_t launch_forward_of(const LossParams& params, const ForwardOutputs& outputs,
                              const ForwardScratch& scratch,
                              const DeviceWithSwitch& device, cudaStream_t stream,
                              int64_t* num_blocks) {
  const Way way = way_of<Factor>(params, device);
  if constexpr (kHasWarpgroups<Factor>) {
    if (way == Way::kWarpgroups) {
      return launch_forward_warpgroups<Factor>(params, outputs, scratch,
                                               tile_device(device), stream, num_blocks);
    }
  }
  return way == Way::kTiles
             ? launch_forward_tiles<Factor>(params, outputs, scratch,
                                            tile_device(device), stream, num_blocks)
             : launch_forward_rows<StorageOf<Factor>>(params, outputs, scratch,
                                                      device.multiprocessors, stream,
                                                      num_blocks);
}

cudaError_t launch_forward(const LossParams& params, const ForwardOutputs& outputs,
                           const DeviceWithSwitch& device, cudaStream_t stream) {
  char* memory = static_cast<char*>(params.scratch);
  const ForwardScratch scratch{
      reinterpret_cast<double*>(memory),
      reinterpret_cast<double*>(memory + ForwardLayout(params).parts_offset)};
  int64_t num_blocks = 0;
  if (params.num_candidates > 0) {
    cudaError_t error = cudaSuccess;
    with_factor_type(params, [&](auto factor) {
      error = launch_forward_of<decltype(factor)>(params, outputs, scratch, device,
                                                  stream, &num_blocks);
    });
    if (error != cudaSuccess) return error;
  }
  if (params.reduction == Reduction::kNone &&
      params.normalize_over == NormalizeOver::kCandidates) {
    return cudaSuccess;
  }
  return launch_finish_forward(params, outputs, scratch, num_blocks, stream);
}

template <typename Factor>
cudaError_t launch_gradient_of(const LossParams& params,
                               const GradientArguments& arguments,
                               const GradientScratch& scratch,
                               const DeviceWithSwitch& device, cudaStream_t stream) {
  const Way way = way_of<Factor>(params, device);
  if constexpr (kHasWarpgroups<Factor>) {
    if (way == Way::kWarpgroups) {
      return launch_gradient_warpgroups<Factor>(params, arguments, scratch,
                                                tile_device(device), stream);
    }
  }
  return way == Way::kTiles
             ? launch_gradient_tiles<Factor>(params, arguments, scratch,
                                             tile_device(device), stream)
             : launch_gradient_rows<StorageOf<Factor>>(params, arguments, scratch,
                                                       device.multiprocessors, stream);
}

cudaError_t launch_gradient(const LossParams& params,
                            const GradientArguments& arguments,
                            const DeviceWithSwitch& device, cudaStream_t stream) {
  const GradientLayout layout(params);
  char* memory = static_cast<char*>(params.scratch);
  auto* coefficient_sum = reinterpret_cast<double*>(memory);
  GradientScratch scratch{coefficient_sum, memory + layout.sums_offset, RowsOfDocs{}};
  if (params.normalize_over == NormalizeOver::kBatch) {
    const cudaError_t error = launch_coefficient_sum(
        params, arguments, reinterpret_cast<double*>(memory + layout.parts_offset),
        coefficient_sum, stream);
    if (error != cudaSuccess) return error;
  }
  if (needs_rows_of_docs(params) && arguments.doc_gradient != nullptr) {
    const cudaError_t error = launch_invert_table(params, memory + layout.table_offset,
                                                  stream, &scratch.rows_of_docs);
    if (error != cudaSuccess) return error;
  }
  cudaError_t error = cudaSuccess;
  with_factor_type(params, [&](auto factor) {
    error = launch_gradient_of<decltype(factor)>(params, arguments, scratch, device,
                                                 stream);
  });
  return error;
}

}  // namespace

Status check_device() {
  DeviceWithSwitch device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(find_kernel(), device);
}

void forget_devices() {
  forget_found_devices();
  forget_kernels();
  forget_warpgroups_switch();
}

int64_t forward_scratch_bytes(const LossParams& params) {
  return ForwardLayout(params).total;
}

int64_t gradient_scratch_bytes(const LossParams& params) {
  return GradientLayout(params).total;
}

Status forward(const LossParams& params, const ForwardOutputs& outputs, Stream stream) {
  DeviceWithSwitch device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(
      launch_forward(params, outputs, device, static_cast<cudaStream_t>(stream)),
      device);
}

Status gradient(const LossParams& params, const GradientArguments& arguments,
                Stream stream) {
  DeviceWithSwitch device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(
      launch_gradient(params, arguments, device, static_cast<cudaStream_t>(stream)),
      device);
}

}  // namespace cuda
}  // namespace negative_cosine
