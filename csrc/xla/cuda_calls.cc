// The custom calls on a GPU: the CUDA core on XLA's stream. XLA aligns its buffers to
// 256 bytes, as the core wants its scratch.
#include "cuda/passes.h"
#include "xla/call_frame.h"
#include "xla/handlers.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

LossParams as_allowed(LossParams params) {
  params.allow_tf32 = allows_tf32();
  return params;
}

ffi::Error forward(cuda::Stream stream, ffi::RemainingArgs arguments,
                   ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const ForwardOutputs& outputs) {
    return cuda::forward(as_allowed(params), outputs, stream);
  };
  return run<ForwardOutputs>(arguments, results, attributes, pass);
}

ffi::Error gradient(cuda::Stream stream, ffi::RemainingArgs arguments,
                    ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const GradientArguments& gradient) {
    return cuda::gradient(as_allowed(params), gradient, stream);
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

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine

XLA_FFI_DEFINE_HANDLER_SYMBOL(negative_cosine_cuda_forward,
                              negative_cosine::xla_calls::forward,
                              negative_cosine::xla_calls::binding(),
                              negative_cosine::xla_calls::kTraits);
XLA_FFI_DEFINE_HANDLER_SYMBOL(negative_cosine_cuda_gradient,
                              negative_cosine::xla_calls::gradient,
                              negative_cosine::xla_calls::binding(),
                              negative_cosine::xla_calls::kTraits);
