// Reads of each query row what the gradient pass needs: what the forward pass saved,
// and the row's coefficients, with the upstream gradient in both.
#pragma once

#include <cstdint>

#include "core/parallel_for.h"
#include "core/params.h"
#include "cpu/rows/rows_of_query.h"

namespace negative_cosine::cpu {

template <typename Real>
Real upstream_of_row(const LossParams& params, const GradientArguments& arguments,
                     int64_t row) {
  const int64_t place = params.reduction == Reduction::kNone ? row : 0;
  return static_cast<const Real*>(arguments.loss_gradient)[place];
}

// Fills `rows` for all B rows. `coefficient_sum` is reductions.h's.
void load_rows_of_query(const LossParams& params, const GradientArguments& arguments,
                        double coefficient_sum, const AnyRowsOfQuery& rows,
                        const ParallelFor& parallel_for);

}  // namespace negative_cosine::cpu
