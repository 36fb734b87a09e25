// TensorFlow's own switch for float32 products of ten bits:
// tf.config.experimental.enable_tensor_float_32_execution.
#pragma once

#include "tsl/platform/tensor_float_32_utils.h"

namespace negative_cosine {
namespace op_kernels {

inline bool allows_tf32() { return tsl::tensor_float_32_execution_enabled(); }

}  // namespace op_kernels
}  // namespace negative_cosine
