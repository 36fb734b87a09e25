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

// The current device's properties, which are read once; an error where there is none
// that the kernels run on.
Status find_device(Device* device);

// After this they are read again.
void forget_found_devices();

Status to_status(cudaError_t error, const Device& device);

}  // namespace cuda
}  // namespace negative_cosine
