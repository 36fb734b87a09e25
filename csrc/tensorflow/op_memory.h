// An op's outputs and work memory.
#pragma once

#include "core/params.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace negative_cosine {
namespace op_kernels {

using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;

// Memory of the device that lives as long as `memory`.
inline absl::Status allocate_bytes(OpKernelContext* context, int64_t bytes,
                                   Tensor* memory, char** data) {
  TF_RETURN_IF_ERROR(
      context->allocate_temp(tensorflow::DT_INT8, TensorShape({bytes}), memory));
  *data = static_cast<char*>(memory->data());
  return absl::OkStatus();
}

inline absl::Status allocate_scratch(OpKernelContext* context, int64_t bytes,
                                     Tensor* memory, LossParams* params) {
  char* scratch = nullptr;
  TF_RETURN_IF_ERROR(allocate_bytes(context, bytes, memory, &scratch));
  params->scratch = scratch;
  return absl::OkStatus();
}

inline bool is_required(OpKernelContext* context, const char* output) {
  int start = 0, end = 0;
  return !context->op_kernel().OutputRange(output, &start, &end).ok() ||
         context->output_required(start);
}

inline absl::Status allocate(OpKernelContext* context, const char* output,
                             const TensorShape& shape, void** data) {
  Tensor* tensor = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(output, shape, &tensor));
  *data = tensor->data();
  return absl::OkStatus();
}

// Allocates an output that costs work only if somebody reads it.
inline absl::Status allocate_if_required(OpKernelContext* context, const char* output,
                                         const TensorShape& shape, void** data) {
  return is_required(context, output) ? allocate(context, output, shape, data)
                                      : absl::OkStatus();
}

}  // namespace op_kernels
}  // namespace negative_cosine
