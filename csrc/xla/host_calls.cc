// The custom calls on the CPU: the core on XLA's threads. XLA aligns its buffers to 64
// bytes, as the core wants its scratch.
#include <algorithm>
#include <functional>
#include <utility>

#include "cpu/device/parallel_for.h"
#include "cpu/passes.h"
#include "xla/call_frame.h"
#include "xla/handlers.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

ParallelFor parallel_for(ffi::ThreadPool* threads) {
  const auto num_threads = std::max<int64_t>(threads->num_threads(), 1);
  return cpu::make_parallel_for(static_cast<int>(num_threads),
                                [threads](std::function<void()> closure) {
                                  threads->Schedule(std::move(closure));
                                });
}

ffi::Error forward(ffi::ThreadPool threads, ffi::RemainingArgs arguments,
                   ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const ForwardOutputs& outputs) {
    return cpu::forward(params, outputs, parallel_for(&threads));
  };
  return run<ForwardOutputs>(arguments, results, attributes, pass);
}

ffi::Error gradient(ffi::ThreadPool threads, ffi::RemainingArgs arguments,
                    ffi::RemainingRets results, ffi::Dictionary attributes) {
  const auto pass = [&](const LossParams& params, const GradientArguments& gradient) {
    return cpu::gradient(params, gradient, parallel_for(&threads));
  };
  return run<GradientArguments>(arguments, results, attributes, pass);
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine

XLA_FFI_DEFINE_HANDLER_SYMBOL(negative_cosine_host_forward,
                              negative_cosine::xla_calls::forward,
                              negative_cosine::xla_calls::binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(negative_cosine_host_gradient,
                              negative_cosine::xla_calls::gradient,
                              negative_cosine::xla_calls::binding());
