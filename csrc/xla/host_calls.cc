// The custom calls on the CPU: the core on XLA's threads.
#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "core/negative_cosine.h"
#include "cpu/parallel_for.h"
#include "xla/call_frame.h"
#include "xla/register_call.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

class HostDevice {
 public:
  explicit HostDevice(ffi::ThreadPool threads) : threads_(std::move(threads)) {}

  Status forward(LossParams params, const ForwardOutputs& outputs) {
    const auto scratch = make_scratch(cpu::forward_scratch_bytes(params), &params);
    return cpu::forward(params, outputs, parallel_for());
  }

  Status gradient(LossParams params, const GradientArguments& arguments) {
    const auto scratch = make_scratch(cpu::gradient_scratch_bytes(params), &params);
    return cpu::gradient(params, arguments, parallel_for());
  }

 private:
  // Eight bytes' alignment is enough for all that scratch holds.
  static std::unique_ptr<int64_t[]> make_scratch(int64_t bytes, LossParams* params) {
    const auto words = static_cast<size_t>(round_up(bytes, 8) / 8);
    std::unique_ptr<int64_t[]> scratch(new int64_t[words]);  // not cleared
    params->scratch = scratch.get();
    return scratch;
  }

  ParallelFor parallel_for() {
    const auto num_threads = std::max<int64_t>(threads_.num_threads(), 1);
    return make_parallel_for(static_cast<int>(num_threads),
                             [this](std::function<void()> closure) {
                               threads_.Schedule(std::move(closure));
                             });
  }

  ffi::ThreadPool threads_;
};

ffi::Error forward(ffi::ThreadPool threads, ffi::RemainingArgs arguments,
                   ffi::RemainingRets results, ffi::Dictionary attributes) {
  HostDevice device(std::move(threads));
  return to_ffi(run_forward(device, arguments, results, attributes));
}

ffi::Error gradient(ffi::ThreadPool threads, ffi::RemainingArgs arguments,
                    ffi::RemainingRets results, ffi::Dictionary attributes) {
  HostDevice device(std::move(threads));
  return to_ffi(run_gradient(device, arguments, results, attributes));
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

XLA_FFI_DEFINE_HANDLER(kForwardHandler, forward, binding());
XLA_FFI_DEFINE_HANDLER(kGradientHandler, gradient, binding());

const bool kRegistered = register_call(kForward, "Host", kForwardHandler) &&
                         register_call(kGradient, "Host", kGradientHandler);

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine
