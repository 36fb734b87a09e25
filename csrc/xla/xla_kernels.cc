// The ops for XLA's compiler: each becomes one custom call to the core.
//
// Shapes are known here, so what is wrong with them is an error of the compilation, in
// the words of core/inputs.cc. The outputs' shapes are those of the op's own shape
// function.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/inputs.h"
#include "cpu/passes.h"
#include "cuda/passes.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_compiler.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/op_options.h"
#include "xla/custom_calls.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/layout_util.h"
#include "xla/shape_util.h"

namespace negative_cosine {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::PartialTensorShape;
using ::tensorflow::TensorShape;
using ::tensorflow::XlaOpKernel;
using ::tensorflow::XlaOpKernelContext;
using ::tensorflow::shape_inference::InferenceContext;

// An op's operands, in the order of custom_calls.h.
struct Operands {
  std::vector<xla::XlaOp> handles;
  std::vector<bool> given;  // of the optional inputs
  // What becomes attributes.
  double margin = 0;
  double negative_weight = 1;
};

Input input_of(const TensorShape& shape) {
  const auto sizes = shape.dim_sizes();
  return Input{Shape(sizes.begin(), sizes.end())};
}

// A shape that the program knows. A size with no more than a bound would need the size
// itself as an operand.
absl::Status known_shape(const absl::StatusOr<xla::Shape>& given, TensorShape* shape) {
  TF_RETURN_IF_ERROR(given.status());
  if (!given->is_static()) {
    return absl::UnimplementedError(
        "negative_cosine needs sizes that are known when the function is compiled, "
        "got shape " +
        given->ToString());
  }
  return ::tensorflow::XLAShapeToTensorShape(*given, shape);
}

absl::Status read_input(XlaOpKernelContext* context, const char* name,
                        Operands* operands, Input* input) {
  TensorShape shape;
  TF_RETURN_IF_ERROR(known_shape(context->InputXlaShape(name), &shape));
  operands->handles.push_back(context->Input(name));
  *input = input_of(shape);
  return absl::OkStatus();
}

absl::Status add_optional(XlaOpKernelContext* context, const char* name,
                          std::optional<Input>* input, Operands* operands) {
  std::vector<xla::XlaOp> handles;
  std::vector<TensorShape> shapes;
  TF_RETURN_IF_ERROR(context->InputList(name, &handles, &shapes));
  if (handles.size() > 1) {
    return absl::InvalidArgumentError(std::string(name) +
                                      " must be given at most once, got " +
                                      std::to_string(handles.size()) + " tensors");
  }
  operands->given.push_back(!handles.empty());
  if (handles.empty()) return absl::OkStatus();
  operands->handles.push_back(handles[0]);
  *input = input_of(shapes[0]);
  return absl::OkStatus();
}

// The operands that both ops begin with, checked.
absl::Status read_operands(XlaOpKernelContext* context,
                           const op_kernels::OpOptions& options, Operands* operands,
                           LossParams* params) {
  LossInputs inputs;
  inputs.num_negatives = options.num_negatives();
  TF_RETURN_IF_ERROR(read_input(context, "query", operands, &inputs.query));
  TF_RETURN_IF_ERROR(read_input(context, "doc", operands, &inputs.doc));
  operands->handles.push_back(context->Input("logit_scale"));
  TF_RETURN_IF_ERROR(
      context->ConstantInputAsFloatScalar(xla_calls::kMarginInput, &operands->margin));
  TF_RETURN_IF_ERROR(context->ConstantInputAsFloatScalar(
      xla_calls::kNegativeWeightInput, &operands->negative_weight));
  inputs.negative_weight = operands->negative_weight;
  for (const auto& [name, member] : kOptionalInputs) {
    TF_RETURN_IF_ERROR(add_optional(context, name, &(inputs.*member), operands));
  }
  *params = options.params();
  return op_kernels::to_tensorflow(set_inputs(inputs, params));
}

// The gradient's further operands, checked; the last is the query's direction.
absl::Status read_saved(XlaOpKernelContext* context, const LossParams& params,
                        Operands* operands, bool* has_direction) {
  SavedInputs inputs;
  for (const auto& [name, member] : kSavedInputs) {
    TF_RETURN_IF_ERROR(read_input(context, name, operands, &(inputs.*member)));
  }
  GradientArguments unused;
  TF_RETURN_IF_ERROR(
      op_kernels::to_tensorflow(set_saved_inputs(inputs, params, &unused)));
  *has_direction = inputs.query_direction.shape == Shape{params.batch_size, params.dim};
  return absl::OkStatus();
}

std::string bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  char text[32];
  std::snprintf(text, sizeof text, "0x%016" PRIX64, bits);
  return text;
}

// The call's attributes as MLIR writes them; a float by its bits, so that it stays
// exact.
std::string attributes_of(const op_kernels::OpOptions& options,
                          const Operands& operands) {
  std::string flags;
  for (const bool flag : operands.given) {
    flags += (flags.empty() ? "" : ", ") + std::string(flag ? "1" : "0");
  }
  return "{num_negatives = " + std::to_string(options.num_negatives().value_or(0)) +
         " : i64, sampler = \"" + options.sampler() +
         "\", mask_self = " + (options.params().mask_self ? "true" : "false") +
         ", normalize_over = \"" + options.normalize_over() + "\", reduction = \"" +
         options.reduction() + "\", margin = " + bits_of(operands.margin) +
         " : f64, negative_weight = " + bits_of(operands.negative_weight) +
         " : f64, given = array<i64: " + flags + ">}";
}

// The shapes of all outputs, by the op's shape function.
absl::Status infer_shapes(XlaOpKernelContext* context,
                          std::vector<TensorShape>* shapes) {
  const auto& node = context->op_kernel().def();
  const ::tensorflow::OpRegistrationData* op = nullptr;
  TF_RETURN_IF_ERROR(::tensorflow::OpRegistry::Global()->LookUp(node.op(), &op));
  std::vector<PartialTensorShape> inputs;
  for (int i = 0; i < context->num_inputs(); ++i) {
    TensorShape shape;
    TF_RETURN_IF_ERROR(known_shape(context->InputXlaShape(i), &shape));
    inputs.push_back(shape);
  }
  InferenceContext inference(TF_GRAPH_DEF_VERSION, ::tensorflow::AttrSlice(node),
                             op->op_def, inputs, {}, {}, {});
  TF_RETURN_IF_ERROR(inference.construction_status());
  TF_RETURN_IF_ERROR(inference.Run(op->shape_inference_fn));
  for (int i = 0; i < context->num_outputs(); ++i) {
    ::tensorflow::TensorShapeProto proto;
    inference.ShapeHandleToProto(inference.output(i), &proto);
    TensorShape shape;
    TF_RETURN_IF_ERROR(TensorShape::BuildTensorShape(proto, &shape));
    shapes->push_back(std::move(shape));
  }
  return absl::OkStatus();
}

absl::Status output_shapes(XlaOpKernelContext* context,
                           std::vector<xla::Shape>* results) {
  std::vector<TensorShape> shapes;
  TF_RETURN_IF_ERROR(infer_shapes(context, &shapes));
  results->resize(shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    TF_RETURN_IF_ERROR(::tensorflow::TensorShapeToXLAShape(
        context->expected_output_dtype(static_cast<int>(i)), shapes[i],
        &(*results)[i]));
  }
  return absl::OkStatus();
}

// The pass's work memory is a result that nobody reads. So XLA plans it as it plans the
// others, and a GPU's recorded call finds it where it was.
xla::Shape with_scratch(std::vector<xla::Shape> results, int64_t scratch_bytes) {
  results.push_back(xla::ShapeUtil::MakeShape(xla::S8, {scratch_bytes}));
  xla::Shape tuple = xla::ShapeUtil::MakeTupleShape(results);
  xla::LayoutUtil::SetToDefaultLayout(&tuple);
  return tuple;
}

// Rows as the kernels read them: XLA may keep a matrix by columns where nobody objects.
absl::Status row_major_shapes(XlaOpKernelContext* context, const Operands& operands,
                              std::vector<xla::Shape>* shapes) {
  for (const xla::XlaOp& handle : operands.handles) {
    absl::StatusOr<xla::Shape> shape = context->builder()->GetShape(handle);
    TF_RETURN_IF_ERROR(shape.status());
    xla::LayoutUtil::SetToDefaultLayout(&*shape);
    shapes->push_back(*std::move(shape));
  }
  return absl::OkStatus();
}

bool is_for_gpu(XlaOpKernelContext* context) {
  return context->compiler()->options().device_type.type_string() == "XLA_GPU_JIT";
}

int64_t forward_scratch_bytes([[maybe_unused]] bool on_gpu, const LossParams& params) {
#if NEGATIVE_COSINE_WITH_CUDA
  if (on_gpu) return cuda::forward_scratch_bytes(params);
#endif
  return cpu::forward_scratch_bytes(params);
}

int64_t gradient_scratch_bytes([[maybe_unused]] bool on_gpu, const LossParams& params) {
#if NEGATIVE_COSINE_WITH_CUDA
  if (on_gpu) return cuda::gradient_scratch_bytes(params);
#endif
  return cpu::gradient_scratch_bytes(params);
}

absl::Status emit_call(XlaOpKernelContext* context, const char* target,
                       const op_kernels::OpOptions& options, const Operands& operands,
                       const xla::Shape& results, xla::XlaOp* call) {
  std::vector<xla::Shape> operand_shapes;
  TF_RETURN_IF_ERROR(row_major_shapes(context, operands, &operand_shapes));
  *call = xla::CustomCallWithLayout(
      context->builder(), target, operands.handles, results, operand_shapes,
      attributes_of(options, operands),
      /*has_side_effect=*/false, {}, nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
  return absl::OkStatus();
}

// A call whose results are the outputs of `context`.
absl::Status emit_outputs(XlaOpKernelContext* context, const char* target,
                          const op_kernels::OpOptions& options,
                          const Operands& operands, int64_t scratch_bytes) {
  std::vector<xla::Shape> results;
  TF_RETURN_IF_ERROR(output_shapes(context, &results));
  xla::XlaOp call;
  TF_RETURN_IF_ERROR(emit_call(context, target, options, operands,
                               with_scratch(results, scratch_bytes), &call));
  for (int i = 0; i < context->num_outputs(); ++i) {
    context->SetOutput(i, xla::GetTupleElement(call, i));
  }
  return absl::OkStatus();
}

// The forward pass's results, in the order of ops.cc, without statistics.
std::vector<xla::Shape> forward_shapes(const LossParams& params) {
  const xla::PrimitiveType real =
      params.data_type == DataType::kFloat64 ? xla::F64 : xla::F32;
  const auto reals = [&](const std::vector<int64_t>& sizes) {
    return xla::ShapeUtil::MakeShape(real, sizes);
  };
  const int64_t rows = params.batch_size;
  const bool is_reduced = params.reduction != Reduction::kNone;
  const xla::Shape none = xla::ShapeUtil::MakeShape(xla::S32, {0});
  return {reals(is_reduced ? std::vector<int64_t>{} : std::vector<int64_t>{rows}),
          reals({rows}),
          reals({rows}),
          reals({rows, 4}),
          reals({params.num_candidates}),
          reals({rows}),
          reals({rows, params.dim}),
          none,
          none};
}

constexpr int kDirectionResult = 6;

// The direction of the query's gradient by a forward pass of its own: eager execution,
// of which XLA may compile single ops, leaves it out (tensorflow/query_direction.h).
absl::Status emit_direction(XlaOpKernelContext* context,
                            const op_kernels::OpOptions& options,
                            const Operands& operands, const LossParams& params,
                            xla::XlaOp* direction) {
  const xla::Shape results = with_scratch(
      forward_shapes(params), forward_scratch_bytes(is_for_gpu(context), params));
  xla::XlaOp call;
  TF_RETURN_IF_ERROR(
      emit_call(context, xla_calls::kForward, options, operands, results, &call));
  *direction = xla::GetTupleElement(call, kDirectionResult);
  return absl::OkStatus();
}

absl::Status emit_loss(XlaOpKernelContext* context,
                       const op_kernels::OpOptions& options) {
  Operands operands;
  LossParams params;
  TF_RETURN_IF_ERROR(read_operands(context, options, &operands, &params));
  return emit_outputs(context, xla_calls::kForward, options, operands,
                      forward_scratch_bytes(is_for_gpu(context), params));
}

absl::Status emit_gradient(XlaOpKernelContext* context,
                           const op_kernels::OpOptions& options) {
  Operands operands;
  LossParams params;
  TF_RETURN_IF_ERROR(read_operands(context, options, &operands, &params));
  const Operands of_loss = operands;
  bool has_direction = false;
  TF_RETURN_IF_ERROR(read_saved(context, params, &operands, &has_direction));
  if (!has_direction) {
    TF_RETURN_IF_ERROR(
        emit_direction(context, options, of_loss, params, &operands.handles.back()));
  }
  return emit_outputs(context, xla_calls::kGradient, options, operands,
                      gradient_scratch_bytes(is_for_gpu(context), params));
}

template <absl::Status (*emit)(XlaOpKernelContext*, const op_kernels::OpOptions&)>
class CallOp : public XlaOpKernel {
 public:
  explicit CallOp(OpKernelConstruction* context)
      : XlaOpKernel(context), options_(context) {}

  void Compile(XlaOpKernelContext* context) override {
    OP_REQUIRES_OK(context, emit(context, options_));
  }

 private:
  const op_kernels::OpOptions options_;
};

using LossOp = CallOp<emit_loss>;
using LossGradOp = CallOp<emit_gradient>;

REGISTER_XLA_OP(Name("NegativeCosineLoss")
                    .CompileTimeConstantInput("margin")
                    .CompileTimeConstantInput("negative_weight"),
                LossOp);
REGISTER_XLA_OP(Name("NegativeCosineLossGrad")
                    .CompileTimeConstantInput("margin")
                    .CompileTimeConstantInput("negative_weight"),
                LossGradOp);

// XLA makes kernels of what is registered above once, when it compiles for the first
// time. For a library that is opened later these stand in; their priority is below
// XLA's own and above that of missing_xla_kernels.cc.
constexpr int kStandIn = -1;

#define REGISTER_STAND_IN(op, device, kernel) \
  REGISTER_KERNEL_BUILDER(Name(op).Device(device).Priority(kStandIn), kernel)

REGISTER_STAND_IN("NegativeCosineLoss", "XLA_CPU_JIT", LossOp);
REGISTER_STAND_IN("NegativeCosineLoss", "XLA_GPU_JIT", LossOp);
REGISTER_STAND_IN("NegativeCosineLossGrad", "XLA_CPU_JIT", LossGradOp);
REGISTER_STAND_IN("NegativeCosineLossGrad", "XLA_GPU_JIT", LossGradOp);

}  // namespace
}  // namespace negative_cosine
