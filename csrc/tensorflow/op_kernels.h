// The op's kernels for any device: validate, allocate, call the core. No arithmetic.
//
// `Device` has forward_scratch_bytes, gradient_scratch_bytes, forward and gradient: see
// cpu_kernels.cc and gpu_kernels.cc. Inputs and outputs are the device's memory, but
// for `margin` and `negative_weight`, which are the host's.
#pragma once

#include <optional>
#include <string>

#include "core/inputs.h"
#include "core/params.h"
#include "core/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/op_memory.h"
#include "tensorflow/op_options.h"
#include "tensorflow/op_status.h"
#include "tensorflow/query_direction.h"

namespace negative_cosine {
namespace op_kernels {

using ::tensorflow::OpInputList;
using ::tensorflow::OpKernel;

inline Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.shape().dim_sizes();
  return Shape(sizes.begin(), sizes.end());
}

inline Input input_of(const Tensor& tensor) {
  return Input{
      shape_of(tensor), tensor.data(),
      tensor.dtype() == tensorflow::DT_INT64 ? IndexType::kInt64 : IndexType::kInt32};
}

// An optional argument: a list input of length zero or one.
inline absl::Status read_optional(OpKernelContext* context, const char* name,
                                  std::optional<Input>* input) {
  OpInputList list;
  if (absl::Status status = context->input_list(name, &list); !status.ok())
    return status;
  if (list.size() > 1) {
    return absl::InvalidArgumentError(std::string(name) +
                                      " must be given at most once, got " +
                                      std::to_string(list.size()) + " tensors");
  }
  if (list.size() == 1) *input = input_of(list[0]);
  return absl::OkStatus();
}

inline absl::Status read_scalar(OpKernelContext* context, const char* name,
                                const Tensor** tensor) {
  if (absl::Status status = context->input(name, tensor); !status.ok()) return status;
  if ((*tensor)->dims() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(std::string(name) +
                                    " must be a scalar, got shape " +
                                    to_string(shape_of(**tensor)));
}

inline double host_value(const Tensor& scalar) {
  return scalar.dtype() == tensorflow::DT_DOUBLE
             ? *static_cast<const double*>(scalar.data())
             : *static_cast<const float*>(scalar.data());
}

// A call's inputs and the op's options, checked, as LossParams.
inline absl::Status read_params(OpKernelContext* context, const OpOptions& options,
                                LossParams* params) {
  const Tensor *query, *doc, *logit_scale, *margin, *negative_weight;
  TF_RETURN_IF_ERROR(context->input("query", &query));
  TF_RETURN_IF_ERROR(context->input("doc", &doc));
  TF_RETURN_IF_ERROR(read_scalar(context, "logit_scale", &logit_scale));
  TF_RETURN_IF_ERROR(read_scalar(context, "margin", &margin));
  TF_RETURN_IF_ERROR(read_scalar(context, "negative_weight", &negative_weight));

  LossInputs inputs;
  inputs.query = input_of(*query);
  inputs.doc = input_of(*doc);
  inputs.negative_weight = host_value(*negative_weight);
  inputs.num_negatives = options.num_negatives();
  for (const auto& [name, member] : kOptionalInputs) {
    TF_RETURN_IF_ERROR(read_optional(context, name, &(inputs.*member)));
  }

  *params = options.params();
  params->logit_scale = logit_scale->data();
  params->margin = host_value(*margin);
  return to_tensorflow(set_inputs(inputs, params));
}

template <typename Device>
class NegativeCosineLossOp : public OpKernel {
 public:
  explicit NegativeCosineLossOp(OpKernelConstruction* context)
      : OpKernel(context), options_(context) {
    OP_REQUIRES_OK(context,
                   context->GetAttr("with_query_direction", &with_query_direction_));
    OP_REQUIRES_OK(context, context->GetAttr("with_statistics", &with_statistics_));
  }

  void Compute(OpKernelContext* context) override {
    LossParams params;
    OP_REQUIRES_OK(context, read_params(context, options_, &params));
    ForwardOutputs outputs;
    OP_REQUIRES_OK(context, allocate_outputs(context, params, &outputs));
    Tensor scratch;
    OP_REQUIRES_OK(context,
                   allocate_scratch(context, Device::forward_scratch_bytes(params),
                                    &scratch, &params));
    OP_REQUIRES_OK(context, to_tensorflow(without_exceptions([&] {
                     return Device::forward(context, params, outputs);
                   })));
  }

 private:
  absl::Status allocate_outputs(OpKernelContext* context, const LossParams& params,
                                ForwardOutputs* outputs) const {
    const TensorShape rows({params.batch_size});
    const TensorShape none({0});
    const bool reduced = params.reduction != Reduction::kNone;
    TF_RETURN_IF_ERROR(
        allocate(context, "loss", reduced ? TensorShape({}) : rows, &outputs->loss));
    TF_RETURN_IF_ERROR(allocate(context, "row_loss", rows, &outputs->row_loss));
    TF_RETURN_IF_ERROR(
        allocate(context, "positive_cosine", rows, &outputs->positive_cosine));
    TF_RETURN_IF_ERROR(allocate(context, "saved_rows",
                                TensorShape({params.batch_size, 4}),
                                &outputs->saved_rows));
    TF_RETURN_IF_ERROR(allocate(context, "doc_inverse_norm",
                                TensorShape({params.num_candidates}),
                                &outputs->doc_inverse_norm));
    TF_RETURN_IF_ERROR(
        allocate(context, "row_scale_gradient", rows, &outputs->row_scale_gradient));

    void* unused = nullptr;
    if (with_query_direction_) {
      TF_RETURN_IF_ERROR(allocate_if_required(
          context, "query_direction", TensorShape({params.batch_size, params.dim}),
          &outputs->query_direction));
    } else {
      TF_RETURN_IF_ERROR(
          allocate(context, "query_direction", TensorShape({0, params.dim}), &unused));
    }
    void* num_kept = nullptr;
    void* positive_rank = nullptr;
    TF_RETURN_IF_ERROR(
        allocate(context, "num_kept", with_statistics_ ? rows : none, &num_kept));
    TF_RETURN_IF_ERROR(allocate(context, "positive_rank",
                                with_statistics_ ? rows : none, &positive_rank));
    if (with_statistics_) {
      outputs->num_kept = static_cast<int32_t*>(num_kept);
      outputs->positive_rank = static_cast<int32_t*>(positive_rank);
    }
    return absl::OkStatus();
  }

  OpOptions options_;
  bool with_query_direction_ = true;
  bool with_statistics_ = true;
};

template <typename Device>
class NegativeCosineLossGradOp : public OpKernel {
 public:
  explicit NegativeCosineLossGradOp(OpKernelConstruction* context)
      : OpKernel(context), options_(context) {}

  void Compute(OpKernelContext* context) override {
    LossParams params;
    OP_REQUIRES_OK(context, read_params(context, options_, &params));
    GradientArguments arguments;
    OP_REQUIRES_OK(context, read_saved(context, params, &arguments));
    OP_REQUIRES_OK(context, allocate_outputs(context, params, &arguments));
    Tensor direction;
    if (arguments.query_direction == nullptr && arguments.query_gradient != nullptr) {
      OP_REQUIRES_OK(context,
                     compute_query_direction<Device>(context, params, &direction,
                                                     &arguments.query_direction));
    }
    Tensor scratch;
    OP_REQUIRES_OK(context,
                   allocate_scratch(context, Device::gradient_scratch_bytes(params),
                                    &scratch, &params));
    OP_REQUIRES_OK(context, to_tensorflow(without_exceptions([&] {
                     return Device::gradient(context, params, arguments);
                   })));
  }

 private:
  static absl::Status read_saved(OpKernelContext* context, const LossParams& params,
                                 GradientArguments* arguments) {
    SavedInputs inputs;
    for (const auto& [name, member] : kSavedInputs) {
      const Tensor* tensor = nullptr;
      TF_RETURN_IF_ERROR(context->input(name, &tensor));
      inputs.*member = input_of(*tensor);
    }
    return to_tensorflow(set_saved_inputs(inputs, params, arguments));
  }

  // In place of the saved direction, which nobody reads afterwards, if the dtypes
  // agree.
  static absl::Status allocate_query_gradient(OpKernelContext* context,
                                              const TensorShape& shape,
                                              GradientArguments* arguments) {
    if (!is_required(context, "query_gradient")) return absl::OkStatus();
    Tensor* gradient = nullptr;
    TF_RETURN_IF_ERROR(context->forward_input_or_allocate_output(
        {"query_direction"}, "query_gradient", shape, &gradient));
    arguments->query_gradient = gradient->data();
    return absl::OkStatus();
  }

  static absl::Status allocate_outputs(OpKernelContext* context,
                                       const LossParams& params,
                                       GradientArguments* arguments) {
    const int64_t weights = params.sample_weight == nullptr ? 0 : params.batch_size;
    TF_RETURN_IF_ERROR(allocate_query_gradient(
        context, TensorShape({params.batch_size, params.dim}), arguments));
    TF_RETURN_IF_ERROR(allocate_if_required(
        context, "doc_gradient", TensorShape({params.num_candidates, params.dim}),
        &arguments->doc_gradient));
    TF_RETURN_IF_ERROR(allocate_if_required(context, "logit_scale_gradient",
                                            TensorShape({}),
                                            &arguments->logit_scale_gradient));
    void* weight_gradient = nullptr;
    TF_RETURN_IF_ERROR(allocate_if_required(context, "sample_weight_gradient",
                                            TensorShape({weights}), &weight_gradient));
    if (weights > 0) arguments->sample_weight_gradient = weight_gradient;
    return absl::OkStatus();
  }

  OpOptions options_;
};

}  // namespace op_kernels
}  // namespace negative_cosine
