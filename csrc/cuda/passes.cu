// The forward and gradient passes on a GPU: which kernels are launched, in which order.
//
// Without options a training step is three launches: the rows forward, the sum of their
// losses, and the gradient of all rows.
#include <cuda_runtime.h>

#include <string>

#include "core/negative_cosine.h"
#include "cuda/candidates/inverted_table.h"
#include "cuda/reductions.h"
#include "cuda/rows/kernels.h"
#include "cuda/tiles/kernels.h"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kOldestCapability = 75;

// What it was compiled for, such as "80-real,90": set by the build.
constexpr char kArchitectures[] = NEGATIVE_COSINE_CUDA_ARCHITECTURES;

struct Device {
  int multiprocessors = 0;
  int capability = 0;  // 90 for 9.0
  int shared_bytes = 0;
};

std::string to_version(int number, int unit) {
  return std::to_string(number / unit) + "." + std::to_string(number % unit);
}

Status no_kernel(const Device& device) {
  return Status::FailedPrecondition(
      "the CUDA kernels were built for the architectures " +
      std::string(kArchitectures) + " and this device has compute capability " +
      to_version(device.capability, 10) +
      (device.capability < kOldestCapability
           ? ", older than 7.5: place the loss on the CPU, or use the reference"
           : ": build again with NEGATIVE_COSINE_CUDA_ARCHITECTURES=" +
                 std::to_string(device.capability)));
}

// The first driver for a toolkit's generation, by NVIDIA's CUDA compatibility guide:
// within one, older drivers run what newer toolkits have built.
int oldest_driver(int cuda) { return cuda >= 13 ? 580 : cuda == 12 ? 525 : 450; }

Status no_driver_for_runtime() {
  constexpr int kGeneration = CUDART_VERSION / 1000;
  const std::string built_with = "CUDA " + to_version(CUDART_VERSION / 10, 100) +
                                 ", which the CUDA kernels were built with";
  const std::string update =
      "driver " + std::to_string(oldest_driver(kGeneration)) + " or later";
  int version = 0;  // of CUDA that the driver is for; 0 where there is none
  if (cudaDriverGetVersion(&version) != cudaSuccess) cudaGetLastError();
  if (version == 0) {
    return Status::FailedPrecondition("no NVIDIA driver was found, and " + built_with +
                                      ", needs " + update);
  }
  return Status::FailedPrecondition(
      "the machine's NVIDIA driver is for CUDA " + to_version(version / 10, 100) +
      " and too old for " + built_with + ": install " + update +
      ", or build again with the toolkit of CUDA " + std::to_string(version / 1000));
}

Status to_status(cudaError_t error, const Device& device) {
  switch (error) {
    case cudaSuccess:
      return Status::Ok();
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return no_kernel(device);
    case cudaErrorInsufficientDriver:
      return no_driver_for_runtime();
    case cudaErrorNoDevice:
      return Status::FailedPrecondition("no CUDA device was found");
    case cudaErrorInvalidConfiguration:
      return Status::InvalidArgument(
          "the batch is too large for one launch of the CUDA kernels; use fewer rows "
          "or "
          "fewer candidates for each row");
    default:
      return Status::Internal(std::string("the CUDA kernels, or earlier work on the "
                                          "device, failed: ") +
                              cudaGetErrorName(error) + ": " +
                              cudaGetErrorString(error));
  }
}

Status find_device(Device* device) {
  int number = 0, major = 0, minor = 0;
  cudaError_t error = cudaGetDevice(&number);
  const auto read = [&](cudaDeviceAttr attribute, int* value) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, number);
  };
  read(cudaDevAttrMultiProcessorCount, &device->multiprocessors);
  read(cudaDevAttrComputeCapabilityMajor, &major);
  read(cudaDevAttrComputeCapabilityMinor, &minor);
  read(cudaDevAttrMaxSharedMemoryPerBlockOptin, &device->shared_bytes);
  device->capability = 10 * major + minor;
  if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
  if (error == cudaSuccess && device->capability < kOldestCapability) {
    return no_kernel(*device);
  }
  return to_status(error, *device);
}

// Whether candidates lie side by side and the device can take them by tiles.
template <typename Factor>
bool takes_tiles(const LossParams& params, const Device& device) {
  return params.negative_indices == nullptr && params.sampler != Sampler::kShuffle &&
         fits_tiles<Factor>(params, device.shared_bytes);
}

// Calls `call` with what the rows are multiplied as.
template <typename Call>
void with_factor_type(const LossParams& params, const Call& call) {
  if (params.data_type == DataType::kFloat32 && params.allow_tf32) return call(Tf32{});
  with_storage_type(params.data_type, call);
}

bool uses_table(const LossParams& params) {
  return params.negative_indices != nullptr &&
         params.normalize_over == NormalizeOver::kCandidates;
}

// The gradient pass's parts of params.scratch, one behind the other.
struct GradientLayout {
  explicit GradientLayout(const LossParams& params) {
    // Whether rows are streamed also depends on addresses, so their sums have a place
    // wherever they might be.
    const int64_t row = params.dim * compute_size_of(params.data_type);
    table_offset = sums_offset + round_up(most_streamed_rows(params) * row, 256);
    total = table_offset + (uses_table(params) ? inverted_table_bytes(params) : 0);
  }

  int64_t sums_offset = 256;  // behind the sum of the coefficients
  int64_t table_offset;
  int64_t total;
};

cudaError_t launch_forward(const LossParams& params, const ForwardOutputs& outputs,
                           const Device& device, cudaStream_t stream) {
  const ForwardScratch scratch{static_cast<double*>(params.scratch)};
  int64_t num_blocks = 0;
  if (params.num_candidates > 0) {
    cudaError_t error = cudaSuccess;
    with_factor_type(params, [&](auto factor) {
      using Factor = decltype(factor);
      error =
          takes_tiles<Factor>(params, device)
              ? launch_forward_tiles<Factor>(params, outputs, scratch,
                                             device.shared_bytes, stream, &num_blocks)
              : launch_forward_rows<StorageOf<Factor>>(params, outputs, scratch,
                                                       device.multiprocessors, stream,
                                                       &num_blocks);
    });
    if (error != cudaSuccess) return error;
  }
  if (params.reduction == Reduction::kNone &&
      params.normalize_over == NormalizeOver::kCandidates) {
    return cudaSuccess;
  }
  return launch_finish_forward(params, outputs, scratch.block_losses, num_blocks,
                               stream);
}

cudaError_t launch_gradient(const LossParams& params,
                            const GradientArguments& arguments, const Device& device,
                            cudaStream_t stream) {
  const GradientLayout layout(params);
  char* memory = static_cast<char*>(params.scratch);
  auto* coefficient_sum = reinterpret_cast<double*>(memory);
  GradientScratch scratch{coefficient_sum, memory + layout.sums_offset, RowsOfDocs{}};
  if (params.normalize_over == NormalizeOver::kBatch) {
    const cudaError_t error =
        launch_coefficient_sum(params, arguments, coefficient_sum, stream);
    if (error != cudaSuccess) return error;
  }
  if (uses_table(params) && arguments.doc_gradient != nullptr) {
    const cudaError_t error = launch_invert_table(params, memory + layout.table_offset,
                                                  stream, &scratch.rows_of_docs);
    if (error != cudaSuccess) return error;
  }
  cudaError_t error = cudaSuccess;
  with_factor_type(params, [&](auto factor) {
    using Factor = decltype(factor);
    error = takes_tiles<Factor>(params, device)
                ? launch_gradient_tiles<Factor>(params, arguments, scratch,
                                                device.shared_bytes, stream)
                : launch_gradient_rows<StorageOf<Factor>>(
                      params, arguments, scratch, device.multiprocessors, stream);
  });
  return error;
}

}  // namespace

Status check_device() {
  Device device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(find_kernel(), device);
}

int64_t forward_scratch_bytes(const LossParams& params) {
  return params.num_candidates * int64_t{sizeof(double)};
}

int64_t gradient_scratch_bytes(const LossParams& params) {
  return GradientLayout(params).total;
}

Status forward(const LossParams& params, const ForwardOutputs& outputs, Stream stream) {
  Device device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(
      launch_forward(params, outputs, device, static_cast<cudaStream_t>(stream)),
      device);
}

Status gradient(const LossParams& params, const GradientArguments& arguments,
                Stream stream) {
  Device device;
  if (Status status = find_device(&device); !status.ok()) return status;
  return to_status(
      launch_gradient(params, arguments, device, static_cast<cudaStream_t>(stream)),
      device);
}

}  // namespace cuda
}  // namespace negative_cosine
