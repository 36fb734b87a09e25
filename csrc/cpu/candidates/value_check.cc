#include "cpu/candidates/value_check.h"

#include <cmath>
#include <sstream>
#include <string>

#include "core/rules.h"

namespace negative_cosine::cpu {
namespace {

template <typename Real>
std::string to_text(Real value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

template <typename Real>
Status check_logit_scale(const LossParams& params) {
  const Real scale = logit_scale_of<Real>(params);
  if (scale > 0 && std::isfinite(scale)) return Status::Ok();
  return Status::InvalidArgument(
      "scale / temperature must be above 0 and finite, got " + to_text(scale) +
      (std::isnan(scale) ? " (a compiled function turns any wrong value into NaN)"
                         : "") +
      "; training can push a value below 0: train its logarithm instead, as in "
      "temperature="
      "tf.exp(log_temperature), or use NegativeCosineLoss(learn_temperature=True)");
}

// Without a branch in the loop that all batches take: the compiler makes vectors of it.
template <typename Real>
Status check_log_q(const LossParams& params) {
  if (params.doc_log_q == nullptr) return Status::Ok();
  const auto is_wrong = [&](int64_t doc) {
    return !(log_q_at<Real>(params, doc) > -kInfinity<Real>);
  };
  bool any = false;
  for (int64_t doc = 0; doc < params.num_candidates; ++doc) any |= is_wrong(doc);
  if (!any) return Status::Ok();
  int64_t doc = 0;
  while (!is_wrong(doc)) ++doc;
  return Status::InvalidArgument(
      "doc_log_q must be finite, or infinity for a document that is never a "
      "candidate, got " +
      to_text(log_q_at<Real>(params, doc)) + " at position [" + std::to_string(doc) +
      "]; minus infinity is log(0): estimate every probability above 0");
}

template <typename Real>
Status check(const LossParams& params) {
  if (Status status = check_logit_scale<Real>(params); !status.ok()) return status;
  return check_log_q<Real>(params);
}

}  // namespace

Status check_values(const LossParams& params) {
  return params.data_type == DataType::kFloat64 ? check<double>(params)
                                                : check<float>(params);
}

}  // namespace negative_cosine::cpu
