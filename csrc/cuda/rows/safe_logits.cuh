// Where no logit can leave [-kSafeLogit, kSafeLogit], the sums of a softmax need no
// running maximum.
#pragma once

#include "core/params.h"

namespace negative_cosine {
namespace cuda {

// A weighted row e^t d / |d| has no element above e^40, 2 * 10^17, and a sum of 2^31 of
// them is far below float32's largest number; e^-40 keeps its digits. So sums relative
// to the positive's own logit are safe.
constexpr double kSafeLogit = 40.0;

// The absolute value of a cosine is at most 1, so that of a relative logit without logQ
// correction is at most scale * (2 + |margin|), and with the negatives' weight at most
// its logarithm more.
template <typename Real>
__device__ __forceinline__ bool needs_running_maximum(const LossParams& params,
                                                      Real scale) {
  // A learned scale may have crossed zero.
  const double largest =
      fabs(static_cast<double>(scale)) * (2.0 + fabs(params.margin)) +
      fabs(params.log_negative_weight);
  return params.doc_log_q != nullptr || !(largest <= kSafeLogit);
}

}  // namespace cuda
}  // namespace negative_cosine
