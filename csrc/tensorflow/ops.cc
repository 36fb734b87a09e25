// The op's interface: names, attributes and shapes. Kernels are in op_kernels.h.
//
// Optional arguments are lists of length zero or one. The outputs behind `loss` are
// saved for the gradient or are statistics; what a graph does not use is not computed,
// but in a function that XLA compiles: there a pass is one call with all its outputs.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace negative_cosine {
namespace {

using ::tensorflow::shape_inference::DimensionHandle;
using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

absl::Status optional_vector(InferenceContext* context, const char* name,
                             DimensionHandle length) {
  std::vector<ShapeHandle> shapes;
  TF_RETURN_IF_ERROR(context->input(name, &shapes));
  for (ShapeHandle shape : shapes) {
    TF_RETURN_IF_ERROR(context->WithRank(shape, 1, &shape));
    DimensionHandle merged;
    TF_RETURN_IF_ERROR(context->Merge(context->Dim(shape, 0), length, &merged));
  }
  return absl::OkStatus();
}

struct Sizes {
  DimensionHandle batch;
  DimensionHandle candidates;
  DimensionHandle dim;
};

absl::Status check_inputs(InferenceContext* context, Sizes* sizes) {
  std::vector<ShapeHandle> query, doc, table, scalar;
  for (const char* name : {"logit_scale", "margin", "negative_weight"}) {
    TF_RETURN_IF_ERROR(context->input(name, &scalar));
    TF_RETURN_IF_ERROR(context->WithRank(scalar[0], 0, &scalar[0]));
  }
  TF_RETURN_IF_ERROR(context->input("query", &query));
  TF_RETURN_IF_ERROR(context->input("doc", &doc));
  TF_RETURN_IF_ERROR(context->WithRank(query[0], 2, &query[0]));
  TF_RETURN_IF_ERROR(context->WithRank(doc[0], 2, &doc[0]));
  sizes->batch = context->Dim(query[0], 0);
  sizes->candidates = context->Dim(doc[0], 0);
  TF_RETURN_IF_ERROR(
      context->Merge(context->Dim(query[0], 1), context->Dim(doc[0], 1), &sizes->dim));
  TF_RETURN_IF_ERROR(context->input("negative_indices", &table));
  for (ShapeHandle shape : table) {
    TF_RETURN_IF_ERROR(context->WithRank(shape, 2, &shape));
    TF_RETURN_IF_ERROR(
        context->Merge(context->Dim(shape, 0), sizes->batch, &sizes->batch));
  }
  TF_RETURN_IF_ERROR(optional_vector(context, "seed", context->MakeDim(2)));
  TF_RETURN_IF_ERROR(optional_vector(context, "doc_ids", sizes->candidates));
  TF_RETURN_IF_ERROR(optional_vector(context, "query_ids", sizes->batch));
  TF_RETURN_IF_ERROR(optional_vector(context, "doc_log_q", sizes->candidates));
  return optional_vector(context, "sample_weight", sizes->batch);
}

absl::Status loss_shapes(InferenceContext* context) {
  Sizes sizes;
  TF_RETURN_IF_ERROR(check_inputs(context, &sizes));
  std::string reduction;
  bool with_query_direction, with_statistics;
  TF_RETURN_IF_ERROR(context->GetAttr("reduction", &reduction));
  TF_RETURN_IF_ERROR(context->GetAttr("with_query_direction", &with_query_direction));
  TF_RETURN_IF_ERROR(context->GetAttr("with_statistics", &with_statistics));

  const ShapeHandle rows = context->Vector(sizes.batch);
  const ShapeHandle statistics = with_statistics ? rows : context->Vector(0);
  const std::vector<std::pair<const char*, ShapeHandle>> outputs = {
      {"loss", reduction == "none" ? rows : context->Scalar()},
      {"row_loss", rows},
      {"positive_cosine", rows},
      {"saved_rows", context->Matrix(sizes.batch, 4)},
      {"doc_inverse_norm", context->Vector(sizes.candidates)},
      {"row_scale_gradient", rows},
      {"query_direction", with_query_direction ? context->Matrix(sizes.batch, sizes.dim)
                                               : context->Matrix(0, sizes.dim)},
      {"num_kept", statistics},
      {"positive_rank", statistics}};
  for (const auto& [name, shape] : outputs) {
    TF_RETURN_IF_ERROR(context->set_output(name, {shape}));
  }
  return absl::OkStatus();
}

absl::Status gradient_shapes(InferenceContext* context) {
  Sizes sizes;
  TF_RETURN_IF_ERROR(check_inputs(context, &sizes));
  std::vector<ShapeHandle> weight;
  TF_RETURN_IF_ERROR(context->input("sample_weight", &weight));
  TF_RETURN_IF_ERROR(
      context->set_output("query_gradient", {context->Matrix(sizes.batch, sizes.dim)}));
  TF_RETURN_IF_ERROR(context->set_output(
      "doc_gradient", {context->Matrix(sizes.candidates, sizes.dim)}));
  TF_RETURN_IF_ERROR(context->set_output("logit_scale_gradient", {context->Scalar()}));
  return context->set_output(
      "sample_weight_gradient",
      {weight.empty() ? context->Vector(0) : context->Vector(sizes.batch)});
}

using Builder = ::tensorflow::register_op::OpDefBuilderWrapper;
using Registered = ::tensorflow::InitOnStartupMarker;

// The part that both ops share: see LossParams in core/params.h.
Builder with_loss_arguments(Builder builder) {
  return builder.Input("query: T")
      .Input("doc: T")
      .Input("logit_scale: Real")
      .Input("margin: Real")
      .Input("negative_weight: Real")
      .Input("seed: num_seeds * Tseed")
      .Input("negative_indices: num_tables * Tindex")
      .Input("doc_ids: num_doc_ids * Tdoc_id")
      .Input("query_ids: num_query_ids * Tquery_id")
      .Input("doc_log_q: num_log_q * Real")
      .Input("sample_weight: num_weights * Real")
      .Attr("T: {half, bfloat16, float, double}")
      .Attr("Real: {float, double}")
      .Attr("Tseed: {int32, int64} = DT_INT32")
      .Attr("Tindex: {int32, int64} = DT_INT32")
      .Attr("Tdoc_id: {int32, int64} = DT_INT32")
      .Attr("Tquery_id: {int32, int64} = DT_INT32")
      .Attr("num_seeds: int >= 0")
      .Attr("num_tables: int >= 0")
      .Attr("num_doc_ids: int >= 0")
      .Attr("num_query_ids: int >= 0")
      .Attr("num_log_q: int >= 0")
      .Attr("num_weights: int >= 0")
      .Attr("num_negatives: int = 0")
      .Attr("sampler: {'shuffle', 'ring', 'all'} = 'shuffle'")
      .Attr("mask_self: bool = true")
      .Attr("normalize_over: {'candidates', 'batch'} = 'candidates'")
      .Attr("reduction: {'mean', 'sum', 'none'} = 'mean'");
}

const Registered kLoss = with_loss_arguments(Builder("NegativeCosineLoss"))
                             .Attr("with_query_direction: bool = true")
                             .Attr("with_statistics: bool = true")
                             .Output("loss: Real")
                             .Output("row_loss: Real")
                             .Output("positive_cosine: Real")
                             .Output("saved_rows: Real")
                             .Output("doc_inverse_norm: Real")
                             .Output("row_scale_gradient: Real")
                             .Output("query_direction: Real")
                             .Output("num_kept: int32")
                             .Output("positive_rank: int32")
                             .SetShapeFn(loss_shapes)();

const Registered kGradient = with_loss_arguments(Builder("NegativeCosineLossGrad"))
                                 .Input("loss_gradient: Real")
                                 .Input("row_loss: Real")
                                 .Input("saved_rows: Real")
                                 .Input("doc_inverse_norm: Real")
                                 .Input("row_scale_gradient: Real")
                                 .Input("query_direction: Real")
                                 .Output("query_gradient: T")
                                 .Output("doc_gradient: T")
                                 .Output("logit_scale_gradient: Real")
                                 .Output("sample_weight_gradient: Real")
                                 .SetShapeFn(gradient_shapes)();

}  // namespace
}  // namespace negative_cosine
