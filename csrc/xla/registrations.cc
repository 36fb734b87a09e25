// The custom calls become known to TensorFlow's own copy of XLA.
#include "tensorflow/tf32_switch.h"
#include "xla/custom_calls.h"
#include "xla/handlers.h"
#include "xla/register_call.h"

namespace negative_cosine {
namespace xla_calls {

bool allows_tf32() { return op_kernels::allows_tf32(); }

namespace {

const bool kHostCallsAreRegistered =
    register_call(kForward, "Host", negative_cosine_host_forward) &&
    register_call(kGradient, "Host", negative_cosine_host_gradient);

#if NEGATIVE_COSINE_WITH_CUDA
constexpr auto kRecordable = XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE;

const bool kCudaCallsAreRegistered =
    register_call(kForward, "CUDA", negative_cosine_cuda_forward, kRecordable) &&
    register_call(kGradient, "CUDA", negative_cosine_cuda_gradient, kRecordable);
#endif

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine
