// The option semantics of one (row, candidate) pair: is it dropped, and its logit.
//
// The forward pass asks for one row and many candidates, the gradient pass for one
// document and many rows; both ask here.
#pragma once

#include <cstdint>

#include "core/math.h"
#include "core/params.h"

namespace negative_cosine {

// By doc_ids and query_ids, which the two functions compare. Rows >= B of
// doc are no query's positive, so query_ids say nothing about them.
template <typename EqualDocs, typename EqualQueries>
NEGATIVE_COSINE_INLINE bool has_equal_ids(const LossParams& params, int64_t candidate,
                                          const EqualDocs& equal_docs,
                                          const EqualQueries& equal_queries) {
  if (params.doc_ids != nullptr && equal_docs()) return true;
  return params.query_ids != nullptr && candidate < params.batch_size &&
         equal_queries();
}

NEGATIVE_COSINE_INLINE bool has_ids(const LossParams& params) {
  return params.doc_ids != nullptr || params.query_ids != nullptr;
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real log_q_at(const LossParams& params, int64_t candidate) {
  if (params.doc_log_q == nullptr) return 0;
  return load_value(static_cast<const Real*>(params.doc_log_q) + candidate);
}

// A document that is no row's candidate.
template <typename Real>
NEGATIVE_COSINE_INLINE bool is_excluded(Real log_q) {
  return log_q == kInfinity<Real>;
}

NEGATIVE_COSINE_INLINE bool is_excluded(const LossParams& params, int64_t candidate) {
  return params.data_type == DataType::kFloat64
             ? is_excluded(log_q_at<double>(params, candidate))
             : is_excluded(log_q_at<float>(params, candidate));
}

// docs/semantics.md, "Dropped candidates".
NEGATIVE_COSINE_INLINE bool is_dropped(const LossParams& params, int64_t row,
                                       int64_t candidate) {
  if (params.mask_self && candidate == row) return true;
  if (is_excluded(params, candidate)) return true;
  const auto equal = [&](const void* ids, IndexType type) {
    return load_index(ids, type, candidate) == load_index(ids, type, row);
  };
  return has_equal_ids(
      params, candidate, [&] { return equal(params.doc_ids, params.doc_ids_type); },
      [&] { return equal(params.query_ids, params.query_ids_type); });
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real logit_scale_of(const LossParams& params) {
  return load_value(static_cast<const Real*>(params.logit_scale));
}

// z_ik - z_i0 of docs/semantics.md, "Loss", with the differences taken before the
// products: two equal cosines give exactly zero, and close ones lose no digits. First
// without logQ.
template <typename Real>
NEGATIVE_COSINE_INLINE Real relative_logit(Real scale, Real margin, Real cosine,
                                           Real positive_cosine) {
  return scale * ((cosine - positive_cosine) + margin);
}

// A logQ of minus infinity or NaN, which a host refuses and a device cannot, makes it
// infinite; so does one of infinity of the positive's own.
template <typename Real>
NEGATIVE_COSINE_INLINE Real corrected_logit(Real relative_logit, Real log_q,
                                            Real positive_log_q) {
  const Real difference = log_q - positive_log_q;
  const auto is_finite = difference - difference == 0;
  return is_finite ? relative_logit - difference : Real{} + __builtin_inff();
}

// Whether a candidate counts in the positive's rank. NaN does: what cannot be compared
// is no hit.
template <typename Real>
NEGATIVE_COSINE_INLINE bool is_above_positive(Real relative_logit) {
  return !(relative_logit <= 0);
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real relative_logit(Real scale, Real margin, Real cosine,
                                           Real positive_cosine, Real log_q,
                                           Real positive_log_q) {
  return corrected_logit(relative_logit(scale, margin, cosine, positive_cosine), log_q,
                         positive_log_q);
}

}  // namespace negative_cosine
