// Refuses values that would make every number of a loss wrong. A host can: the values
// are in its memory. On a device they make NaN or infinity, see core/formulas.h.
#pragma once

#include "core/params.h"
#include "core/status.h"

namespace negative_cosine::cpu {

// The logit scale, and each document's logQ.
Status check_values(const LossParams& params);

}  // namespace negative_cosine::cpu
