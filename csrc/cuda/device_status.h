// The current device, and a CUDA error in words that help.
#pragma once

#include <cuda_runtime.h>

#include "core/status.h"

namespace negative_cosine {
namespace cuda {

struct Device {
  int multiprocessors = 0;
  int capability = 0;  // 90 for 9.0
  int shared_bytes = 0;
};

// Reads the current device's properties; an error where there is none that the kernels
// run on.
Status find_device(Device* device);

Status to_status(cudaError_t error, const Device& device);

}  // namespace cuda
}  // namespace negative_cosine
