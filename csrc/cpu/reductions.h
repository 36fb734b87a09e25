// What needs every row: the softmax over the batch, the reduced loss, the sum of the
// rows' coefficients, and the gradients of one number. Sums are in float64 and in the
// order of the rows, on one thread.
#pragma once

#include "core/params.h"
#include "cpu/rows/rows_of_query.h"

namespace negative_cosine::cpu {

// Writes what the rows leave open: the reduced loss and, under NormalizeOver::kBatch,
// every row's loss.
void finish_forward(const LossParams& params, const ForwardOutputs& outputs);

// sum_j a_j of core/formulas.h for NormalizeOver::kBatch; 0 otherwise.
double coefficient_sum(const LossParams& params, const GradientArguments& arguments);

// The gradients of logit_scale and of sample_weight, where they are asked for.
void scalar_gradients(const LossParams& params, const GradientArguments& arguments,
                      const AnyRowsOfQuery& rows_of_query);

}  // namespace negative_cosine::cpu
