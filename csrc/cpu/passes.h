// The passes on the CPU: forward and gradient, on the caller's threads.
//
// No memory outlives a call: the caller provides outputs and scratch (params.scratch),
// aligned to 64 bytes as for the widest vectors. csrc/cuda/passes.h has the same passes
// on a GPU.
#pragma once

#include <cstdint>

#include "core/export.h"
#include "core/parallel_for.h"
#include "core/params.h"
#include "core/status.h"

namespace negative_cosine::cpu {

NEGATIVE_COSINE_API int64_t forward_scratch_bytes(const LossParams& params);
NEGATIVE_COSINE_API int64_t gradient_scratch_bytes(const LossParams& params);

NEGATIVE_COSINE_API Status forward(const LossParams& params,
                                   const ForwardOutputs& outputs,
                                   const ParallelFor& parallel_for);

NEGATIVE_COSINE_API Status gradient(const LossParams& params,
                                    const GradientArguments& arguments,
                                    const ParallelFor& parallel_for);

// The [B, K] table that the sampler draws, for inspection and tests.
NEGATIVE_COSINE_API void sample_negatives(const LossParams& params, int32_t* table,
                                          const ParallelFor& parallel_for);

}  // namespace negative_cosine::cpu
