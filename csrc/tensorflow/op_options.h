// The attributes that the loss and its gradient share, read once, when a kernel is
// made.
#pragma once

#include <optional>
#include <string>

#include "core/inputs.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/op_status.h"

namespace negative_cosine {
namespace op_kernels {

using ::tensorflow::OpKernelConstruction;

inline DataType data_type_of(tensorflow::DataType type) {
  switch (type) {
    case tensorflow::DT_HALF:
      return DataType::kFloat16;
    case tensorflow::DT_BFLOAT16:
      return DataType::kBFloat16;
    case tensorflow::DT_DOUBLE:
      return DataType::kFloat64;
    default:
      return DataType::kFloat32;  // the op definition admits these four only
  }
}

class OpOptions {
 public:
  explicit OpOptions(OpKernelConstruction* context) {
    tensorflow::DataType type, real;
    OP_REQUIRES_OK(context, context->GetAttr("T", &type));
    OP_REQUIRES_OK(context, context->GetAttr("Real", &real));
    OP_REQUIRES_OK(context, context->GetAttr("num_negatives", &num_negatives_));
    OP_REQUIRES_OK(context, context->GetAttr("sampler", &sampler_));
    OP_REQUIRES_OK(context, context->GetAttr("mask_self", &params_.mask_self));
    OP_REQUIRES_OK(context, context->GetAttr("normalize_over", &normalize_over_));
    OP_REQUIRES_OK(context, context->GetAttr("reduction", &reduction_));
    OP_REQUIRES(
        context, (type == tensorflow::DT_DOUBLE) == (real == tensorflow::DT_DOUBLE),
        absl::InvalidArgumentError(
            "Real must be float64 for float64 embeddings and float32 for others"));
    params_.data_type = data_type_of(type);
    OP_REQUIRES_OK(context, to_tensorflow(set_options(sampler_, normalize_over_,
                                                      reduction_, &params_)));
  }

  // With what the attributes say, and no inputs.
  const LossParams& params() const { return params_; }

  // Absent where the candidates say it themselves.
  std::optional<int64_t> num_negatives() const {
    return num_negatives_ == 0 ? std::nullopt : std::optional<int64_t>(num_negatives_);
  }

  const std::string& sampler() const { return sampler_; }
  const std::string& normalize_over() const { return normalize_over_; }
  const std::string& reduction() const { return reduction_; }

 private:
  LossParams params_;
  int64_t num_negatives_ = 0;
  std::string sampler_, normalize_over_, reduction_;
};

}  // namespace op_kernels
}  // namespace negative_cosine
