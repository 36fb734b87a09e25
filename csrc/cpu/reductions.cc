#include "cpu/reductions.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "core/formulas.h"
#include "cpu/rows/saved.h"

namespace negative_cosine::cpu {
namespace {

// row_loss_over_batch of every row, whose logit is kept in its place meanwhile.
template <typename Real>
void softmax_over_batch(const LossParams& params, const ForwardOutputs& outputs) {
  const int64_t rows = params.batch_size;
  if (rows == 0) return;
  const auto* cosines = static_cast<const Real*>(outputs.positive_cosine);
  auto* row_loss = static_cast<Real*>(outputs.row_loss);
  int64_t largest = 0;
  bool has_nan = false;
  for (int64_t row = 0; row < rows; ++row) {
    row_loss[row] =
        positive_logit(params, static_cast<Real>(params.margin), row, cosines[row]);
    has_nan = has_nan || std::isnan(row_loss[row]);
    if (row_loss[row] > row_loss[largest]) largest = row;
  }
  const Real largest_logit =
      has_nan ? std::numeric_limits<Real>::quiet_NaN() : row_loss[largest];
  double others = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (row != largest) others += std::exp(row_loss[row] - largest_logit);
  }
  for (int64_t row = 0; row < rows; ++row) {
    row_loss[row] = row_loss_over_batch(largest_logit, row_loss[row], others);
  }
}

template <typename Real>
void reduce_loss(const LossParams& params, const ForwardOutputs& outputs) {
  const auto* row_loss = static_cast<const Real*>(outputs.row_loss);
  auto* loss = static_cast<Real*>(outputs.loss);
  double sum = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    const Real weighted = weighted_loss(params, row, row_loss[row]);
    if (params.reduction == Reduction::kNone) {
      loss[row] = weighted;
    } else {
      sum += weighted;
    }
  }
  if (params.reduction != Reduction::kNone) loss[0] = static_cast<Real>(sum);
}

template <typename Real>
double sum_of_coefficients(const LossParams& params,
                           const GradientArguments& arguments) {
  const auto* row_loss = static_cast<const Real*>(arguments.row_loss);
  double sum = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    sum += zero_safe_product(loss_coefficient(params, row, row_loss[row]),
                             upstream_of_row<Real>(params, arguments, row));
  }
  return sum;
}

template <typename Real>
void logit_scale_gradient(const LossParams& params, const GradientArguments& arguments,
                          const RowCoefficients<Real>* coefficients) {
  if (arguments.logit_scale_gradient == nullptr) return;
  const auto* scale_gradients = static_cast<const Real*>(arguments.row_scale_gradient);
  double sum = 0;
  for (int64_t row = 0; row < params.batch_size; ++row) {
    sum += zero_safe_product(coefficients[row].query, scale_gradients[row]);
  }
  *static_cast<Real*>(arguments.logit_scale_gradient) = static_cast<Real>(sum);
}

template <typename Real>
void sample_weight_gradient(const LossParams& params,
                            const GradientArguments& arguments) {
  if (arguments.sample_weight_gradient == nullptr) return;
  const auto* row_loss = static_cast<const Real*>(arguments.row_loss);
  for (int64_t row = 0; row < params.batch_size; ++row) {
    static_cast<Real*>(arguments.sample_weight_gradient)[row] =
        upstream_of_row<Real>(params, arguments, row) *
        weight_gradient(params, row, row_loss[row]);
  }
}

}  // namespace

void finish_forward(const LossParams& params, const ForwardOutputs& outputs) {
  with_compute_type(params.data_type, [&](auto real) {
    using Real = decltype(real);
    if (params.normalize_over == NormalizeOver::kBatch) {
      softmax_over_batch<Real>(params, outputs);
    }
    reduce_loss<Real>(params, outputs);
  });
}

double coefficient_sum(const LossParams& params, const GradientArguments& arguments) {
  if (params.normalize_over == NormalizeOver::kCandidates) return 0;
  return params.data_type == DataType::kFloat64
             ? sum_of_coefficients<double>(params, arguments)
             : sum_of_coefficients<float>(params, arguments);
}

void scalar_gradients(const LossParams& params, const GradientArguments& arguments,
                      const AnyRowsOfQuery& rows_of_query) {
  with_compute_type(params.data_type, [&](auto real) {
    using Real = decltype(real);
    logit_scale_gradient(params, arguments, rows_of_query.as<Real>().coefficients);
    sample_weight_gradient<Real>(params, arguments);
  });
}

}  // namespace negative_cosine::cpu
