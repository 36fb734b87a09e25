// 1 / |row|: 0 where the row has no direction, because |row| <= 1e-12 or
// |row| is above half the largest number (a product with it could overflow); NaN
// where an element is infinite or NaN.
//
// A kernel sums the squares; only where that sum may have overflowed it asks a second
// time, with the row's largest magnitude and the sum of the squares of row / largest.
#pragma once

#include "core/math.h"

namespace negative_cosine {

template <typename Real>
NEGATIVE_COSINE_INLINE bool may_have_overflowed(Real sum_of_squares) {
  return sum_of_squares > (sizeof(Real) == 4 ? Real(1e38) : Real(1e308));
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real inverse_norm_of(Real sum_of_squares) {
  return sum_of_squares <= Real(1e-24) ? Real(0) : 1 / sqrt_of(sum_of_squares);
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real inverse_norm_of_scaled(Real largest,
                                                   Real scaled_sum_of_squares) {
  // Infinity over infinity has made the sum NaN already.
  if (largest > kLargestNumber<Real>) return scaled_sum_of_squares;
  const Real norm_ratio = sqrt_of(scaled_sum_of_squares);
  if (norm_ratio > kLargestNumber<Real> / 2 / largest) return 0;
  return (1 / largest) / norm_ratio;
}

// 0 for a row without direction, even beside NaN.
template <typename Real>
NEGATIVE_COSINE_INLINE Real cosine_of(Real product, Real inverse_norm) {
  return inverse_norm == 0 ? Real(0) : product * inverse_norm;
}

// The positive's cosine, which a row's logits are relative to: a query with NaN makes
// it NaN even beside a document without direction.
template <typename Real>
NEGATIVE_COSINE_INLINE Real positive_cosine_of(Real product, Real doc_inverse_norm,
                                               Real query_inverse_norm) {
  return cosine_of(product, doc_inverse_norm) + 0 * query_inverse_norm;
}

}  // namespace negative_cosine
