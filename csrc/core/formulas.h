// From a row's sums over its candidates to its loss and the parts of its gradients.
//
// With c_k the cosines, t_k = z_k - z_0 the logits relative to the positive's, and sums
// over the kept candidates (docs/semantics.md, "Loss"), each of weight w = 1 at first:
//
//   loss       = softplus(logsumexp t_k) = log(1 + sum e^t_k)
//   p_k        = e^t_k / (1 + sum e^t_k),    p_0 - 1 = -sum e^t_k / (1 + sum e^t_k)
//   d loss / d logit_scale = sum p_k c_k + (p_0 - 1)(c_0 - margin)
//   d loss / d query       = logit_scale * direction
//   direction  = (G - (G . q) q) / |query|,  G = sum p_k d_k + (p_0 - 1) d_0,
//
// where q and d are unit rows, so G . q = sum p_k c_k + (p_0 - 1) c_0. The document's
// gradient is the same with a_i = d loss / d row_loss_i and the row's saved values:
//
//   d loss / d doc_j = logit_scale (H - (H . d) d) / |doc_j|,
//   H = sum over rows i that kept j of a_i p_ij q_i + a_j (p_j0 - 1) q_j.
//
// The gradient pass has p_ij as e^(t_ij - shift_i) / sum, with the sum relative to the
// same shift: a large loss itself has no digits left for it.
//
// With another negative_weight w every e^t_k counts w times: it is e^(t_k + log w). No
// logit is changed for it. All sums are relative to a shift, so that log w is a part of
// the shift: it starts at -log w, where a candidate weighs as much as the positive.
//
// Under NormalizeOver::kBatch the candidates do not enter the loss: there
// d z_i0 / d query = logit_scale * direction with G = d_0, and a_i is d loss / d z_i0.
//
// A logit beyond the largest number makes a row's loss infinite. Such a row, and one of
// weight 0, has a_i = 0, and where a_i is 0 nothing of the row is multiplied by it: it
// may hold NaN.
#pragma once

#include "core/math.h"
#include "core/params.h"
#include "core/rules.h"

namespace negative_cosine {

// Where the shift of a row's sums starts: at the positive's own t_0 = 0, less log w.
template <typename Real>
NEGATIVE_COSINE_INLINE Real first_shift(const LossParams& params) {
  return Real(0) - static_cast<Real>(params.log_negative_weight);
}

// Sums over the candidates met so far, relative to e^shift, which only rises.
template <typename Real>
struct CandidateSums {
  Real shift;
  Real weight_sum;  // sum e^(t_k - shift)
  Real cosine_sum;  // sum e^(t_k - shift) c_k
};

// How much each part counts in G: the summed candidates and the positive.
template <typename Real>
struct RowWeights {
  Real candidates;
  Real positive;
};

template <typename Real>
struct RowResult {
  Real row_loss;  // meaningless under NormalizeOver::kBatch: it needs every row
  Real scale_gradient;
  Real projection;  // G . q
  RowWeights<Real> weights;
};

template <typename Real>
NEGATIVE_COSINE_INLINE RowResult<Real> finish_row(const LossParams& params,
                                                  const CandidateSums<Real>& sums,
                                                  Real positive_cosine) {
  const bool over_batch = params.normalize_over == NormalizeOver::kBatch;
  if (!over_batch && sums.shift >= kLargestNumber<Real>) {
    return RowResult<Real>{kInfinity<Real>, 0, 0, RowWeights<Real>{0, 0}};
  }
  // How far the largest logit is above the positive's, with log w: 0 if it is not.
  const Real above = sums.shift - first_shift<Real>(params);
  const Real total = exp_of(-above) + sums.weight_sum;
  const RowWeights<Real> weights =
      over_batch ? RowWeights<Real>{0, 1}
                 : RowWeights<Real>{1 / total, -sums.weight_sum / total};
  // Over the batch the candidates serve statistics alone: not even 0 * NaN of them
  // counts.
  const Real candidates = over_batch ? Real(0) : weights.candidates * sums.cosine_sum;
  const Real margin = static_cast<Real>(params.margin);
  return RowResult<Real>{above > 0 ? above + log_of(total) : log1p_of(sums.weight_sum),
                         candidates + weights.positive * (positive_cosine - margin),
                         candidates + weights.positive * positive_cosine, weights};
}

// What the reduction multiplies the loss of a row with this weight by.
template <typename Real>
NEGATIVE_COSINE_INLINE Real reduced_weight(const LossParams& params,
                                           Real sample_weight) {
  return params.reduction == Reduction::kMean
             ? sample_weight / static_cast<Real>(params.batch_size)
             : sample_weight;
}

template <typename Real>
NEGATIVE_COSINE_INLINE Real sample_weight_at(const LossParams& params, int64_t row) {
  if (params.sample_weight == nullptr) return 1;
  return load_value(static_cast<const Real*>(params.sample_weight) + row);
}

// A row's part of the loss.
template <typename Real>
NEGATIVE_COSINE_INLINE Real weighted_loss(const LossParams& params, int64_t row,
                                          Real row_loss) {
  const Real weight = sample_weight_at<Real>(params, row);
  return weight == 0 ? Real(0) : reduced_weight(params, weight) * row_loss;
}

// d weighted_loss / d row_loss.
template <typename Real>
NEGATIVE_COSINE_INLINE Real loss_coefficient(const LossParams& params, int64_t row,
                                             Real row_loss) {
  const Real weight = sample_weight_at<Real>(params, row);
  const bool adds_nothing = weight == 0 || row_loss == kInfinity<Real>;
  return adds_nothing ? Real(0) : reduced_weight(params, weight);
}

// d weighted_loss / d sample_weight.
template <typename Real>
NEGATIVE_COSINE_INLINE Real weight_gradient(const LossParams& params, int64_t row,
                                            Real row_loss) {
  const bool is_finite = row_loss - row_loss == 0;
  if (!is_finite && sample_weight_at<Real>(params, row) == 0) return 0;
  return reduced_weight(params, Real(1)) * row_loss;
}

// A coefficient of 0 stays 0, even times NaN.
template <typename Real>
NEGATIVE_COSINE_INLINE Real zero_safe_product(Real coefficient, Real factor) {
  return coefficient == 0 ? Real(0) : coefficient * factor;
}

// What the gradient pass needs of a row. Over the batch it meets no candidates.
template <typename Real>
NEGATIVE_COSINE_INLINE SavedRow<Real> saved_row_of(const LossParams& params,
                                                   int64_t row,
                                                   const RowResult<Real>& result,
                                                   Real positive_cosine, Real shift,
                                                   Real query_inverse_norm) {
  if (params.normalize_over == NormalizeOver::kBatch) {
    return {0, positive_cosine, 0, query_inverse_norm};
  }
  const Real coefficient = zero_safe_product(
      loss_coefficient(params, row, result.row_loss), result.weights.candidates);
  return {coefficient, positive_cosine, shift, query_inverse_norm};
}

// What a row's own pair has in the gradients: a_i for its query, a_i (p_i0 - 1) for its
// document.
template <typename Real>
struct RowCoefficients {
  Real query;
  Real doc;
};

// d loss / d z_i0 over the batch: p_i sum_j a_j - a_i.
template <typename Real>
NEGATIVE_COSINE_INLINE Real coefficient_over_batch(Real coefficient, Real row_loss,
                                                   double coefficient_sum) {
  return static_cast<Real>(exp_of(static_cast<double>(-row_loss)) * coefficient_sum -
                           coefficient);
}

// `coefficient_sum` is that of all rows' a_i, which NormalizeOver::kBatch alone needs.
template <typename Real>
NEGATIVE_COSINE_INLINE RowCoefficients<Real> row_coefficients(const LossParams& params,
                                                              int64_t row,
                                                              Real row_loss,
                                                              Real upstream,
                                                              double coefficient_sum) {
  const Real coefficient =
      zero_safe_product(loss_coefficient(params, row, row_loss), upstream);
  if (params.normalize_over == NormalizeOver::kBatch) {
    const Real both = coefficient_over_batch(coefficient, row_loss, coefficient_sum);
    return {both, both};
  }
  return {coefficient, zero_safe_product(coefficient, expm1_of(-row_loss))};
}

// Whether a document holds NaN and no row that adds to the gradient has met it:
// otherwise the projection would be NaN too.
template <typename Real>
NEGATIVE_COSINE_INLINE bool is_unused_nan(Real doc_inverse_norm, Real projection) {
  return doc_inverse_norm != doc_inverse_norm && projection == 0;
}

// z_i0 of docs/semantics.md, "Loss". Minus infinity for a row that is not in the
// batch's softmax: one whose document is no row's candidate, or that holds NaN and has
// weight 0.
template <typename Real>
NEGATIVE_COSINE_INLINE Real positive_logit(const LossParams& params, Real margin,
                                           int64_t row, Real cosine) {
  const Real log_q = log_q_at<Real>(params, row);
  if (is_excluded(log_q)) return -kInfinity<Real>;
  const Real logit =
      corrected_logit(logit_scale_of<Real>(params) * (cosine - margin), log_q, Real(0));
  const bool is_nan = logit != logit;
  return is_nan && sample_weight_at<Real>(params, row) == 0 ? -kInfinity<Real> : logit;
}

// row_loss over the batch: logsumexp_j z_j0 - z_i0, with the sum of e^(z_j0 - z_max)
// over all rows but one of the largest. Two non-negative parts, so that small losses
// keep their digits.
template <typename Real>
NEGATIVE_COSINE_INLINE Real row_loss_over_batch(Real largest_logit, Real logit,
                                                double others) {
  if (logit == -kInfinity<Real> || largest_logit == kInfinity<Real>) {
    return kInfinity<Real>;
  }
  return (largest_logit - logit) + static_cast<Real>(log1p_of(others));
}

}  // namespace negative_cosine
