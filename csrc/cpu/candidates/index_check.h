// Whether the caller's candidates are documents.
#pragma once

#include "core/parallel_for.h"
#include "core/params.h"
#include "core/status.h"

namespace negative_cosine::cpu {

// Checks that every entry of params.negative_indices lies in [0, C), and names the
// first that does not; nothing where there are none. Both passes ask: an op's tensors
// are its caller's, and an unchecked index would be written to.
Status check_indices(const LossParams& params, const ParallelFor& parallel_for);

}  // namespace negative_cosine::cpu
