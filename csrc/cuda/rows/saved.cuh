// What the forward pass saves of a query row for the gradient pass (SavedRow), by one
// 16-byte access for float32 arithmetic and by two for float64; and what the gradient
// pass makes of it, the row's coefficients.
#pragma once

#include "core/formulas.h"
#include "cuda/device/warp.cuh"

namespace negative_cosine {
namespace cuda {

__device__ __forceinline__ SavedRow<float> load_saved(const SavedRow<float>* values) {
  const float4 bits = __ldg(reinterpret_cast<const float4*>(values));
  return {bits.x, bits.y, bits.z, bits.w};
}

__device__ __forceinline__ SavedRow<double> load_saved(const SavedRow<double>* values) {
  const double2 first = __ldg(reinterpret_cast<const double2*>(values));
  const double2 second = __ldg(reinterpret_cast<const double2*>(values) + 1);
  return {first.x, first.y, second.x, second.y};
}

__device__ __forceinline__ void store_saved(const SavedRow<float>& values,
                                            SavedRow<float>* to) {
  __stcs(reinterpret_cast<float4*>(to),
         make_float4(values.candidate_coefficient, values.positive_cosine, values.shift,
                     values.query_inverse_norm));
}

__device__ __forceinline__ void store_saved(const SavedRow<double>& values,
                                            SavedRow<double>* to) {
  __stcs(reinterpret_cast<double2*>(to),
         make_double2(values.candidate_coefficient, values.positive_cosine));
  __stcs(reinterpret_cast<double2*>(to) + 1,
         make_double2(values.shift, values.query_inverse_norm));
}

// --- Forward -------------------------------------------------------------------------

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
  store_saved(
      saved_row_of(params, row, result, positive_cosine, shift, query_inverse_norm),
      static_cast<SavedRow<Real>*>(outputs.saved_rows) + row);
  if (over_batch) return 0;
  __stcs(static_cast<Real*>(outputs.row_loss) + row, row_loss);
  const Real loss = weighted_loss(params, row, row_loss);
  if (params.reduction == Reduction::kNone) {
    __stcs(static_cast<Real*>(outputs.loss) + row, loss);
  }
  return loss;
}

// --- Gradient ------------------------------------------------------------------------

template <typename Real>
__device__ __forceinline__ Real upstream_of_row(const LossParams& params,
                                                const GradientArguments& arguments,
                                                int64_t row) {
  return load_value(static_cast<const Real*>(arguments.loss_gradient) +
                    (params.reduction == Reduction::kNone ? row : 0));
}

// The sum of all rows' coefficients, which only NormalizeOver::kBatch has.
__device__ __forceinline__ double coefficient_sum_of(const LossParams& params,
                                                     const double* coefficient_sum) {
  return params.normalize_over == NormalizeOver::kBatch ? __ldg(coefficient_sum) : 0;
}

template <typename Real>
__device__ __forceinline__ Real row_loss_of(const GradientArguments& arguments,
                                            int64_t row) {
  return __ldg(static_cast<const Real*>(arguments.row_loss) + row);
}

template <typename Real>
__device__ __forceinline__ RowCoefficients<Real> coefficients_of_row(
    const LossParams& params, const GradientArguments& arguments,
    const double* coefficient_sum, int64_t row) {
  return row_coefficients(params, row, row_loss_of<Real>(arguments, row),
                          upstream_of_row<Real>(params, arguments, row),
                          coefficient_sum_of(params, coefficient_sum));
}

template <typename Real>
__device__ __forceinline__ SavedRow<Real> saved_values_of_row(
    const GradientArguments& arguments, int64_t row) {
  return load_saved(static_cast<const SavedRow<Real>*>(arguments.saved_rows) + row);
}

// The saved values of a row, their coefficient multiplied by the upstream gradient.
template <typename Real>
__device__ __forceinline__ SavedRow<Real> weighted_values_of_row(
    const LossParams& params, const GradientArguments& arguments, int64_t row) {
  SavedRow<Real> values = saved_values_of_row<Real>(arguments, row);
  values.candidate_coefficient = zero_safe_product(
      values.candidate_coefficient, upstream_of_row<Real>(params, arguments, row));
  return values;
}

template <typename Real>
__device__ __forceinline__ SavedRow<Real> values_of_lane(const SavedRow<Real>& values,
                                                         int lane) {
  return {__shfl_sync(kWholeWarp, values.candidate_coefficient, lane),
          __shfl_sync(kWholeWarp, values.positive_cosine, lane),
          __shfl_sync(kWholeWarp, values.shift, lane),
          __shfl_sync(kWholeWarp, values.query_inverse_norm, lane)};
}

}  // namespace cuda
}  // namespace negative_cosine
