// The op's kernels on a GPU: the CUDA core on TensorFlow's stream.
#include <string>

#include "cuda/passes.h"
#include "tensorflow/op_kernels.h"
#include "tensorflow/tf32_switch.h"
#include "xla/stream_executor/stream.h"

namespace negative_cosine {
namespace {

using ::tensorflow::OpKernelContext;

struct GpuDevice {
  static int64_t forward_scratch_bytes(const LossParams& params) {
    return cuda::forward_scratch_bytes(params);
  }

  static int64_t gradient_scratch_bytes(const LossParams& params) {
    return cuda::gradient_scratch_bytes(params);
  }

  static Status forward(OpKernelContext* context, const LossParams& params,
                        const ForwardOutputs& outputs) {
    return cuda::forward(as_allowed(params), outputs, stream_of(context));
  }

  static Status gradient(OpKernelContext* context, const LossParams& params,
                         const GradientArguments& arguments) {
    return cuda::gradient(as_allowed(params), arguments, stream_of(context));
  }

 private:
  static LossParams as_allowed(LossParams params) {
    params.allow_tf32 = op_kernels::allows_tf32();
    return params;
  }

  static cuda::Stream stream_of(OpKernelContext* context) {
    return context->op_device_context()->stream()->platform_specific_handle().stream;
  }
};

using LossOp = op_kernels::NegativeCosineLossOp<GpuDevice>;
using LossGradOp = op_kernels::NegativeCosineLossGradOp<GpuDevice>;

REGISTER_KERNEL_BUILDER(Name("NegativeCosineLoss")
                            .Device(tensorflow::DEVICE_GPU)
                            .HostMemory("margin")
                            .HostMemory("negative_weight"),
                        LossOp);
REGISTER_KERNEL_BUILDER(Name("NegativeCosineLossGrad")
                            .Device(tensorflow::DEVICE_GPU)
                            .HostMemory("margin")
                            .HostMemory("negative_weight"),
                        LossGradOp);

}  // namespace
}  // namespace negative_cosine

// Why the kernels cannot run on the current device, empty if they can; for the choice
// between them and the reference.
extern "C" __attribute__((visibility("default"))) const char*
negative_cosine_cuda_problem() {
  static thread_local std::string problem;
  problem = negative_cosine::cuda::check_device().message();
  return problem.c_str();
}
