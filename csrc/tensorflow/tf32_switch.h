// TensorFlow's own switch for float32 products of ten bits:
// tf.config.experimental.enable_tensor_float_32_execution.
#pragma once

#include "core/params.h"
#include "tsl/platform/tensor_float_32_utils.h"

namespace negative_cosine {

inline LossParams as_tensorflow_multiplies(LossParams params) {
  params.allow_tf32 = tsl::tensor_float_32_execution_enabled();
  return params;
}

}  // namespace negative_cosine
