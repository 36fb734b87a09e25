// The custom calls as C functions that any XLA can be given: TensorFlow's own copy is
// by registrations.cc, JAX's by tests/kernels/ffi.
#pragma once

#include "xla/ffi/api/ffi.h"

XLA_FFI_DECLARE_HANDLER_SYMBOL(negative_cosine_host_forward);
XLA_FFI_DECLARE_HANDLER_SYMBOL(negative_cosine_host_gradient);
XLA_FFI_DECLARE_HANDLER_SYMBOL(negative_cosine_cuda_forward);
XLA_FFI_DECLARE_HANDLER_SYMBOL(negative_cosine_cuda_gradient);

namespace negative_cosine {
namespace xla_calls {

// Whether a GPU may multiply float32 rows with ten bits of each element: for those who
// register the handlers to define, as their framework has a switch for it.
bool allows_tf32();

}  // namespace xla_calls
}  // namespace negative_cosine
