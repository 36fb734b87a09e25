// From a row's sums over its candidates to its loss and the parts of its gradients.
//
// With c_k the cosines, t_k = z_k - z_0 the logits relative to the positive's, and sums
// over the kept candidates (SPEC section 4):
//
//   loss       = softplus(logsumexp t_k) = log(1 + sum e^t_k)
//   p_k        = e^t_k / (1 + sum e^t_k),    p_0 - 1 = -sum e^t_k / (1 + sum e^t_k)
//   d loss / d logit_scale = sum p_k c_k + (p_0 - 1)(c_0 - margin)
//   d loss / d query       = logit_scale * direction
//   direction  = (G - (G . q) q) / |query|,  G = sum p_k d_k + (p_0 - 1) d_0,
//
// where q and d are unit rows, so G . q = sum p_k c_k + (p_0 - 1) c_0. The document's
// gradient is the same with a_i = d loss / d row_loss_i and the row's facts:
//
//   d loss / d doc_j = logit_scale (H - (H . d) d) / |doc_j|,
//   H = sum over rows i that kept j of a_i p_ij q_i + a_j (p_j0 - 1) q_j.
//
// Under NormalizeOver::kBatch the candidates do not enter the loss: there
// d z_i0 / d query = logit_scale * direction with G = d_0, and a_i is d loss / d z_i0.
#pragma once

#include "core/math.h"
#include "core/params.h"

namespace negative_cosine {

// Sums over the candidates met so far, relative to e^shift. The shift starts at the
// positive's own t_0 = 0 and only rises.
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
  const Real total = exp_of(-sums.shift) + sums.weight_sum;
  const RowWeights<Real> weights =
      over_batch ? RowWeights<Real>{0, 1}
                 : RowWeights<Real>{1 / total, -sums.weight_sum / total};
  // Over the batch the candidates serve statistics alone: not even 0 * NaN of them
  // counts.
  const Real candidates = over_batch ? Real(0) : weights.candidates * sums.cosine_sum;
  const Real margin = static_cast<Real>(params.margin);
  return RowResult<Real>{
      sums.shift > 0 ? sums.shift + log_of(total) : log1p_of(sums.weight_sum),
      candidates + weights.positive * (positive_cosine - margin),
      candidates + weights.positive * positive_cosine, weights};
}

// d loss / d row_loss of SPEC's reduction, for an upstream gradient of 1.
template <typename Real>
NEGATIVE_COSINE_INLINE Real reduced_weight(const LossParams& params,
                                           Real sample_weight) {
  return params.reduction == Reduction::kMean
             ? sample_weight / static_cast<Real>(params.batch_size)
             : sample_weight;
}

// a_j (p_j0 - 1): what the positive's own row contributes to H.
template <typename Real>
NEGATIVE_COSINE_INLINE Real positive_coefficient(NormalizeOver normalize_over,
                                                 Real coefficient, Real row_loss) {
  return normalize_over == NormalizeOver::kBatch ? coefficient
                                                 : coefficient * expm1_of(-row_loss);
}

// z_i0 of SPEC section 4.
template <typename Real>
NEGATIVE_COSINE_INLINE Real positive_logit(Real scale, Real margin, Real cosine,
                                           Real log_q) {
  return scale * (cosine - margin) - log_q;
}

// row_loss over the batch: logsumexp_j z_j0 - z_i0, with the sum of e^(z_j0 - z_max)
// over all rows but one of the largest. Two non-negative parts, so that small losses
// keep their digits.
template <typename Real>
NEGATIVE_COSINE_INLINE Real row_loss_over_batch(Real largest_logit, Real logit,
                                                double others) {
  return (largest_logit - logit) + static_cast<Real>(log1p_of(others));
}

// d loss / d z_i0 over the batch: p_i sum_j a_j - a_i.
template <typename Real>
NEGATIVE_COSINE_INLINE Real coefficient_over_batch(Real coefficient, Real row_loss,
                                                   double coefficient_sum) {
  return static_cast<Real>(exp_of(static_cast<double>(-row_loss)) * coefficient_sum -
                           coefficient);
}

}  // namespace negative_cosine
