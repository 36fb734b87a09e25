// What the forward pass saves of a query row, once its sums are known.
#pragma once

#include "core/formulas.h"
#include "cuda/rows/saved.cuh"

namespace negative_cosine {
namespace cuda {

// What is saved of a row, by one lane. Returns the row's part of the reduced loss.
template <typename Real>
__device__ __forceinline__ double store_row_results(const LossParams& params,
                                                    const ForwardOutputs& outputs,
                                                    int64_t row, Real positive_cosine,
                                                    Real query_inverse_norm, Real shift,
                                                    const RowResult<Real>& result) {
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  const Real row_loss = over_batch ? Real(0) : result.row_loss;  // see reductions.cu
  __stcs(static_cast<Real*>(outputs.positive_cosine) + row, positive_cosine);
  __stcs(static_cast<Real*>(outputs.row_scale_gradient) + row, result.scale_gradient);
  store_facts(facts_of(params, row, result, positive_cosine, shift, query_inverse_norm),
              static_cast<RowFacts<Real>*>(outputs.row_facts) + row);
  if (over_batch) return 0;
  __stcs(static_cast<Real*>(outputs.row_loss) + row, row_loss);
  const Real loss = weighted_loss(params, row, row_loss);
  if (params.reduction == Reduction::kNone) {
    __stcs(static_cast<Real*>(outputs.loss) + row, loss);
  }
  return loss;
}

}  // namespace cuda
}  // namespace negative_cosine
