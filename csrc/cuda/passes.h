// The passes on a GPU: forward and gradient, on the caller's stream.
//
// Work is put on the stream and nothing is waited for: an error of the device itself
// appears in a later call. Every pointer is the device's. No memory outlives a call:
// the caller provides outputs and scratch (params.scratch), aligned to 256 bytes as
// allocators of device memory give it. csrc/cpu/passes.h has the same passes on the
// CPU.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/params.h"
#include "core/status.h"

namespace negative_cosine {
namespace cuda {

using Stream = void*;  // a cudaStream_t

// Whether the current device can run the kernels, and if not, why.
NEGATIVE_COSINE_API Status check_device();

// Properties of devices and kernels are asked for once in a process. After this they
// are asked again: for where a device becomes another. Other libraries do not see it.
void forget_devices();

NEGATIVE_COSINE_API int64_t forward_scratch_bytes(const LossParams& params);
NEGATIVE_COSINE_API int64_t gradient_scratch_bytes(const LossParams& params);

NEGATIVE_COSINE_API Status forward(const LossParams& params,
                                   const ForwardOutputs& outputs, Stream stream);

NEGATIVE_COSINE_API Status gradient(const LossParams& params,
                                    const GradientArguments& arguments, Stream stream);

}  // namespace cuda
}  // namespace negative_cosine
