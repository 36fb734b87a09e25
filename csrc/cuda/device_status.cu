#include <atomic>
#include <cstdint>
#include <string>

#include "cuda/device_status.h"

namespace negative_cosine {
namespace cuda {
namespace {

constexpr int kOldestCapability = 75;

// What it was compiled for, such as "80-real,90": set by the build.
constexpr char kArchitectures[] = NEGATIVE_COSINE_CUDA_ARCHITECTURES;

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

// What was read of the first devices, in one number each, so that no thread sees half
// of it; 0 for nothing yet.
constexpr int kMostFound = 64;
std::atomic<uint64_t> found_devices[kMostFound];

uint64_t to_number(const Device& device) {
  return static_cast<uint64_t>(device.shared_bytes) << 32 |
         static_cast<uint64_t>(device.multiprocessors) << 16 |
         static_cast<uint64_t>(device.capability);
}

Device from_number(uint64_t number) {
  Device device;
  device.shared_bytes = static_cast<int>(number >> 32);
  device.multiprocessors = static_cast<int>(number >> 16 & 0xffff);
  device.capability = static_cast<int>(number & 0xffff);
  return device;
}

cudaError_t read_properties(int number, Device* device) {
  int major = 0, minor = 0;
  cudaError_t error = cudaSuccess;
  const auto read = [&](cudaDeviceAttr attribute, int* value) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(value, attribute, number);
  };
  read(cudaDevAttrMultiProcessorCount, &device->multiprocessors);
  read(cudaDevAttrComputeCapabilityMajor, &major);
  read(cudaDevAttrComputeCapabilityMinor, &minor);
  read(cudaDevAttrMaxSharedMemoryPerBlockOptin, &device->shared_bytes);
  device->capability = 10 * major + minor;
  return error;
}

// An error is not kept.
cudaError_t read_once(int number, Device* device) {
  if (number >= kMostFound) return read_properties(number, device);
  std::atomic<uint64_t>& found = found_devices[number];
  if (const uint64_t properties = found; properties != 0) {
    *device = from_number(properties);
    return cudaSuccess;
  }
  const cudaError_t error = read_properties(number, device);
  if (error == cudaSuccess) found = to_number(*device);
  return error;
}

}  // namespace

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
  int number = 0;
  cudaError_t error = cudaGetDevice(&number);
  if (error == cudaSuccess) error = read_once(number, device);
  if (error != cudaSuccess) cudaGetLastError();  // or the next launch reports it
  if (error == cudaSuccess && device->capability < kOldestCapability) {
    return no_kernel(*device);
  }
  return to_status(error, *device);
}

void forget_found_devices() {
  for (std::atomic<uint64_t>& properties : found_devices) properties = 0;
}

}  // namespace cuda
}  // namespace negative_cosine
