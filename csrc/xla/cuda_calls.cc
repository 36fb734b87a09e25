// The custom calls on a GPU: the CUDA core on XLA's stream. XLA aligns its buffers to
// 256 bytes, as the core wants its scratch.
#include "core/negative_cosine.h"
#include "tensorflow/tf32_switch.h"
#include "xla/call_frame.h"
#include "xla/register_call.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

ffi::Error forward(cuda::Stream stream, ffi::RemainingArgs arguments,
                   ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const ForwardOutputs& outputs) {
    return cuda::forward(as_tensorflow_multiplies(params), outputs, stream);
  };
  return run<ForwardOutputs>(arguments, results, attributes, pass);
}

ffi::Error gradient(cuda::Stream stream, ffi::RemainingArgs arguments,
                    ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const GradientArguments& gradient) {
    return cuda::gradient(as_tensorflow_multiplies(params), gradient, stream);
  };
  return run<GradientArguments>(arguments, results, attributes, pass);
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cuda::Stream>>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

// Nothing waits for the host, and all memory is XLA's own: the calls may be recorded
// and replayed.
constexpr auto kTraits = {ffi::Traits::kCmdBufferCompatible};

XLA_FFI_DEFINE_HANDLER(kForwardHandler, forward, binding(), kTraits);
XLA_FFI_DEFINE_HANDLER(kGradientHandler, gradient, binding(), kTraits);

constexpr auto kRecordable = XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE;

const bool kRegistered =
    register_call(kForward, "CUDA", kForwardHandler, kRecordable) &&
    register_call(kGradient, "CUDA", kGradientHandler, kRecordable);

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine
