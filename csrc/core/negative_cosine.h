// The core's interface: one forward pass, one gradient pass, and the sampler's table.
//
// Nothing here allocates device or host memory that outlives a call: the caller
// provides outputs and scratch (params.scratch), whose sizes the two functions give.
// CPU and CUDA take the same structs; the one runs on the caller's threads, the other
// on the caller's stream.
#pragma once

#include <cstdint>
#include <functional>

#include "core/params.h"
#include "core/status.h"

namespace negative_cosine {

// Runs `work(begin, end)` over a partition of [0, count) on the caller's threads.
// `cost` estimates one item in processor cycles, so that small work stays on one
// thread. The results never depend on the partition.
using ParallelFor =
    std::function<void(int64_t count, int64_t cost,
                       const std::function<void(int64_t begin, int64_t end)>& work)>;

namespace cpu {

// Scratch is aligned to 64 bytes, as for the widest vectors.
int64_t forward_scratch_bytes(const LossParams& params);
int64_t gradient_scratch_bytes(const LossParams& params);

Status forward(const LossParams& params, const ForwardOutputs& outputs,
               const ParallelFor& parallel_for);

Status gradient(const LossParams& params, const GradientArguments& arguments,
                const ParallelFor& parallel_for);

// The [B, K] table that the sampler draws, for inspection and tests.
void sample_negatives(const LossParams& params, int32_t* table,
                      const ParallelFor& parallel_for);

}  // namespace cpu

// Work is put on the stream and nothing is waited for: an error of the device itself
// appears in a later call. Every pointer is the device's, and scratch is aligned to 256
// bytes, as allocators of device memory give it.
namespace cuda {

using Stream = void*;  // a cudaStream_t

// Whether the current device can run the kernels, and if not, why.
Status check_device();

int64_t forward_scratch_bytes(const LossParams& params);
int64_t gradient_scratch_bytes(const LossParams& params);

Status forward(const LossParams& params, const ForwardOutputs& outputs, Stream stream);

Status gradient(const LossParams& params, const GradientArguments& arguments,
                Stream stream);

}  // namespace cuda
}  // namespace negative_cosine
