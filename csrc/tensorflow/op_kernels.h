// The op's kernels for any device: validate, allocate, call the core. No arithmetic.
//
// `Device` has forward_scratch_bytes, gradient_scratch_bytes, forward and gradient: see
// cpu_kernels.cc and gpu_kernels.cc. Inputs and outputs are the device's memory, but
// for `margin`, which is the host's.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/negative_cosine.h"
#include "core/shapes.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/op_memory.h"
#include "tensorflow/query_direction.h"

namespace negative_cosine {
namespace op_kernels {

using ::tensorflow::OpInputList;
using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;

inline Shape shape_of(const Tensor& tensor) {
  const auto sizes = tensor.shape().dim_sizes();
  return Shape(sizes.begin(), sizes.end());
}

// An optional argument: a list input of length zero or one.
inline absl::Status read_optional(OpKernelContext* context, const char* name,
                                  std::optional<Tensor>* tensor) {
  OpInputList list;
  if (absl::Status status = context->input_list(name, &list); !status.ok())
    return status;
  if (list.size() > 1) {
    return absl::InvalidArgumentError(std::string(name) +
                                      " must be given at most once, got " +
                                      std::to_string(list.size()) + " tensors");
  }
  if (list.size() == 1) *tensor = list[0];
  return absl::OkStatus();
}

// Null means absent, and an empty tensor has no memory of its own to point at.
inline const void* data_of(const std::optional<Tensor>& tensor) {
  static const int64_t kNothing = 0;
  if (!tensor) return nullptr;
  return tensor->NumElements() == 0 ? &kNothing : tensor->data();
}

inline std::optional<Shape> shape_of(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional<Shape>(shape_of(*tensor)) : std::nullopt;
}

inline IndexType index_type_of(const std::optional<Tensor>& tensor) {
  return tensor && tensor->dtype() == tensorflow::DT_INT64 ? IndexType::kInt64
                                                           : IndexType::kInt32;
}

inline absl::Status read_scalar(OpKernelContext* context, const char* name,
                                const Tensor** tensor) {
  if (absl::Status status = context->input(name, tensor); !status.ok()) return status;
  if ((*tensor)->dims() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(std::string(name) +
                                    " must be a scalar, got shape " +
                                    to_string(shape_of(**tensor)));
}

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

// The attributes that both ops share, read once, when the kernel is made.
class OpOptions {
 public:
  explicit OpOptions(OpKernelConstruction* context) {
    tensorflow::DataType type, real;
    std::string sampler, normalize_over, reduction;
    OP_REQUIRES_OK(context, context->GetAttr("T", &type));
    OP_REQUIRES_OK(context, context->GetAttr("Real", &real));
    OP_REQUIRES_OK(context, context->GetAttr("num_negatives", &num_negatives_));
    OP_REQUIRES_OK(context, context->GetAttr("sampler", &sampler));
    OP_REQUIRES_OK(context, context->GetAttr("mask_self", &params_.mask_self));
    OP_REQUIRES_OK(context, context->GetAttr("normalize_over", &normalize_over));
    OP_REQUIRES_OK(context, context->GetAttr("reduction", &reduction));
    OP_REQUIRES(
        context, (type == tensorflow::DT_DOUBLE) == (real == tensorflow::DT_DOUBLE),
        absl::InvalidArgumentError(
            "Real must be float64 for float64 embeddings and float32 for others"));
    params_.data_type = data_type_of(type);
    params_.sampler = sampler == "ring"  ? Sampler::kRing
                      : sampler == "all" ? Sampler::kAll
                                         : Sampler::kShuffle;
    params_.normalize_over =
        normalize_over == "batch" ? NormalizeOver::kBatch : NormalizeOver::kCandidates;
    params_.reduction = reduction == "mean"  ? Reduction::kMean
                        : reduction == "sum" ? Reduction::kSum
                                             : Reduction::kNone;
  }

  // The inputs of this call, checked, as LossParams.
  absl::Status read(OpKernelContext* context, LossParams* params) const {
    const Tensor *query, *doc, *logit_scale, *margin;
    TF_RETURN_IF_ERROR(context->input("query", &query));
    TF_RETURN_IF_ERROR(context->input("doc", &doc));
    TF_RETURN_IF_ERROR(read_scalar(context, "logit_scale", &logit_scale));
    TF_RETURN_IF_ERROR(read_scalar(context, "margin", &margin));
    std::optional<Tensor> seed, table, doc_ids, query_ids, log_q, weight;
    TF_RETURN_IF_ERROR(read_optional(context, "seed", &seed));
    TF_RETURN_IF_ERROR(read_optional(context, "negative_indices", &table));
    TF_RETURN_IF_ERROR(read_optional(context, "doc_ids", &doc_ids));
    TF_RETURN_IF_ERROR(read_optional(context, "query_ids", &query_ids));
    TF_RETURN_IF_ERROR(read_optional(context, "doc_log_q", &log_q));
    TF_RETURN_IF_ERROR(read_optional(context, "sample_weight", &weight));

    InputShapes shapes;
    shapes.query = shape_of(*query);
    shapes.doc = shape_of(*doc);
    shapes.sampler = params_.sampler;
    if (num_negatives_ != 0) shapes.num_negatives = num_negatives_;
    shapes.seed = shape_of(seed);
    shapes.negative_indices = shape_of(table);
    shapes.doc_ids = shape_of(doc_ids);
    shapes.query_ids = shape_of(query_ids);
    shapes.doc_log_q = shape_of(log_q);
    shapes.sample_weight = shape_of(weight);

    *params = params_;
    TF_RETURN_IF_ERROR(to_tensorflow(check_shapes(shapes, params)));
    params->query = query->data();
    params->doc = doc->data();
    params->logit_scale = logit_scale->data();
    params->margin = margin->dtype() == tensorflow::DT_DOUBLE
                         ? *static_cast<const double*>(margin->data())
                         : *static_cast<const float*>(margin->data());
    params->seed = data_of(seed);
    params->seed_type = index_type_of(seed);
    params->negative_indices = data_of(table);
    params->negative_indices_type = index_type_of(table);
    params->doc_ids = data_of(doc_ids);
    params->doc_ids_type = index_type_of(doc_ids);
    params->query_ids = data_of(query_ids);
    params->query_ids_type = index_type_of(query_ids);
    params->doc_log_q = data_of(log_q);
    params->sample_weight = data_of(weight);
    return absl::OkStatus();
  }

 private:
  LossParams params_;
  int64_t num_negatives_ = 0;
};

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
    OP_REQUIRES_OK(context, options_.read(context, &params));
    ForwardOutputs outputs;
    OP_REQUIRES_OK(context, allocate_outputs(context, params, &outputs));
    Tensor scratch;
    OP_REQUIRES_OK(context,
                   allocate_scratch(context, Device::forward_scratch_bytes(params),
                                    &scratch, &params));
    OP_REQUIRES_OK(context, to_tensorflow(Device::forward(context, params, outputs)));
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
    TF_RETURN_IF_ERROR(allocate(context, "row_facts",
                                TensorShape({params.batch_size, 4}),
                                &outputs->row_facts));
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
    OP_REQUIRES_OK(context, options_.read(context, &params));
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
    OP_REQUIRES_OK(context,
                   to_tensorflow(Device::gradient(context, params, arguments)));
  }

 private:
  static absl::Status read_saved(OpKernelContext* context, const LossParams& params,
                                 GradientArguments* arguments) {
    const int64_t rows = params.batch_size;
    const bool reduced = params.reduction != Reduction::kNone;
    const struct {
      const char* name;
      const void** data;
      int64_t size;
      bool may_be_left_out = false;
    } inputs[] = {
        {"loss_gradient", &arguments->loss_gradient, reduced ? 1 : rows},
        {"row_facts", &arguments->row_facts, 4 * rows},
        {"doc_inverse_norm", &arguments->doc_inverse_norm, params.num_candidates},
        {"row_scale_gradient", &arguments->row_scale_gradient, rows},
        {"query_direction", &arguments->query_direction, rows * params.dim, true},
    };
    for (const auto& input : inputs) {
      const Tensor* tensor = nullptr;
      TF_RETURN_IF_ERROR(context->input(input.name, &tensor));
      if (input.may_be_left_out && tensor->NumElements() == 0) continue;
      if (tensor->NumElements() != input.size) {
        return absl::InvalidArgumentError(
            std::string(input.name) + " must have " + std::to_string(input.size) +
            " elements, got shape " + to_string(shape_of(*tensor)));
      }
      *input.data = tensor->data();
    }
    return absl::OkStatus();
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
