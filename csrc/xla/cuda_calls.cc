// The custom calls on a GPU: the CUDA core on XLA's stream.
#include "core/negative_cosine.h"
#include "xla/call_frame.h"
#include "xla/register_call.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

constexpr size_t kAlignment = 256;  // of scratch, see core/negative_cosine.h

class CudaDevice {
 public:
  CudaDevice(cuda::Stream stream, ffi::ScratchAllocator* memory)
      : stream_(stream), memory_(memory) {}

  Status forward(LossParams params, const ForwardOutputs& outputs) {
    const int64_t bytes = cuda::forward_scratch_bytes(params);
    if (Status status = set_scratch(bytes, &params); !status.ok()) return status;
    return cuda::forward(params, outputs, stream_);
  }

  Status gradient(LossParams params, const GradientArguments& arguments) {
    const int64_t bytes = cuda::gradient_scratch_bytes(params);
    if (Status status = set_scratch(bytes, &params); !status.ok()) return status;
    return cuda::gradient(params, arguments, stream_);
  }

 private:
  // The memory goes back when the call returns, before the kernels have run: on the
  // same stream, whoever gets it next comes after them.
  Status set_scratch(int64_t bytes, LossParams* params) {
    if (bytes == 0) return Status::Ok();
    const auto scratch = memory_->Allocate(static_cast<size_t>(bytes), kAlignment);
    if (!scratch) {
      return Status::Internal("no " + std::to_string(bytes) +
                              " bytes of device memory for work of the loss");
    }
    params->scratch = *scratch;
    return Status::Ok();
  }

  cuda::Stream stream_;
  ffi::ScratchAllocator* memory_;
};

ffi::Error forward(cuda::Stream stream, ffi::ScratchAllocator memory,
                   ffi::RemainingArgs arguments, ffi::RemainingRets results,
                   ffi::Dictionary attributes) {
  CudaDevice device(stream, &memory);
  return to_ffi(run_forward(device, arguments, results, attributes));
}

ffi::Error gradient(cuda::Stream stream, ffi::ScratchAllocator memory,
                    ffi::RemainingArgs arguments, ffi::RemainingRets results,
                    ffi::Dictionary attributes) {
  CudaDevice device(stream, &memory);
  return to_ffi(run_gradient(device, arguments, results, attributes));
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::PlatformStream<cuda::Stream>>()
      .Ctx<ffi::ScratchAllocator>()
      .RemainingArgs()
      .RemainingRets()
      .Attrs();
}

// Nothing waits for the host, so the calls may be recorded and replayed.
constexpr auto kTraits = {ffi::Traits::kCmdBufferCompatible};

XLA_FFI_DEFINE_HANDLER(kForwardHandler, forward, binding(), kTraits);
XLA_FFI_DEFINE_HANDLER(kGradientHandler, gradient, binding(), kTraits);

const bool kRegistered =
    register_call(kForward, "CUDA", kForwardHandler,
                  XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE) &&
    register_call(kGradient, "CUDA", kGradientHandler,
                  XLA_FFI_HANDLER_TRAITS_COMMAND_BUFFER_COMPATIBLE);

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine
