// The op's kernels on the CPU.
#include <string>
#include <utility>

#include "cpu/device/parallel_for.h"
#include "cpu/passes.h"
#include "tensorflow/op_kernels.h"

namespace negative_cosine {
namespace {

using ::tensorflow::OpKernelContext;

// Runs the core on TensorFlow's own threads.
struct CpuDevice {
  static ParallelFor parallel_for(OpKernelContext* context) {
    const auto* threads = context->device()->tensorflow_cpu_worker_threads();
    return cpu::make_parallel_for(
        threads->num_threads, [pool = threads->workers](std::function<void()> closure) {
          pool->Schedule(std::move(closure));
        });
  }

  static int64_t forward_scratch_bytes(const LossParams& params) {
    return cpu::forward_scratch_bytes(params);
  }

  static int64_t gradient_scratch_bytes(const LossParams& params) {
    return cpu::gradient_scratch_bytes(params);
  }

  static Status forward(OpKernelContext* context, const LossParams& params,
                        const ForwardOutputs& outputs) {
    return cpu::forward(params, outputs, parallel_for(context));
  }

  static Status gradient(OpKernelContext* context, const LossParams& params,
                         const GradientArguments& arguments) {
    return cpu::gradient(params, arguments, parallel_for(context));
  }
};

using LossOp = op_kernels::NegativeCosineLossOp<CpuDevice>;
using LossGradOp = op_kernels::NegativeCosineLossGradOp<CpuDevice>;

REGISTER_KERNEL_BUILDER(Name("NegativeCosineLoss").Device(tensorflow::DEVICE_CPU),
                        LossOp);
REGISTER_KERNEL_BUILDER(Name("NegativeCosineLossGrad").Device(tensorflow::DEVICE_CPU),
                        LossGradOp);

}  // namespace
}  // namespace negative_cosine

// What TensorFlow knows of the ops, for the report of `python -m negative_cosine`.
extern "C" __attribute__((visibility("default"))) const char*
negative_cosine_registered_kernels(const char* op) {
  static thread_local std::string kernels;
  kernels = tensorflow::KernelsRegisteredForOp(op);
  return kernels.c_str();
}
