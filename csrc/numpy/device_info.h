// What the current device is, for Python.
#pragma once

#include <cuda_runtime.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "numpy/device_memory.h"

namespace negative_cosine {

// Raises std::runtime_error where there is no device, or no driver for it.
inline void require_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return;
  cudaGetLastError();  // so that the next call does not report it again
  throw std::runtime_error(
      std::string("no CUDA device was found") +
      (error == cudaSuccess ? "" : std::string(": ") + cudaGetErrorString(error)));
}

inline std::string cuda_version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

inline pybind11::dict device_info() {
  require_device();
  int number = 0, driver = 0, runtime = 0;
  cudaDeviceProp properties;
  raise_unless_successful(cudaGetDevice(&number), "finding the device");
  raise_unless_successful(cudaGetDeviceProperties(&properties, number),
                          "reading the device's properties");
  raise_unless_successful(cudaDriverGetVersion(&driver),
                          "reading the driver's version");
  raise_unless_successful(cudaRuntimeGetVersion(&runtime),
                          "reading the runtime's version");
  pybind11::dict info;
  info["name"] = properties.name;
  info["compute_capability"] =
      std::to_string(properties.major) + "." + std::to_string(properties.minor);
  info["multiprocessors"] = properties.multiProcessorCount;
  info["memory_bytes"] = properties.totalGlobalMem;
  info["l2_bytes"] = properties.l2CacheSize;
  info["driver_version"] = cuda_version(driver);
  info["runtime_version"] = cuda_version(runtime);
  return info;
}

}  // namespace negative_cosine
