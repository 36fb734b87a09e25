// What a compiled function meets where the XLA library (csrc/xla) is missing: an error
// that says so and what would fix it.
//
// XLA looks for a kernel of its own devices. These have the lowest priority, so that
// the XLA library's win wherever it is loaded. "Unimplemented" is the status after
// which clusters that TensorFlow formed by itself run uncompiled.
#include "tensorflow/core/framework/op_kernel.h"

namespace negative_cosine {
namespace {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;

class MissingXlaKernel : public OpKernel {
 public:
  explicit MissingXlaKernel(OpKernelConstruction* context) : OpKernel(context) {
    context->SetStatus(absl::UnimplementedError(
        "negative_cosine cannot be compiled by XLA here: its library "
        "_negative_cosine_xla.so is not loaded (python -m negative_cosine says why). "
        "To fix it, reinstall negative-cosine where a C++ compiler is found, do not "
        "compile the function (jit_compile=False), or use implementation='reference'"));
  }

  void Compute(OpKernelContext*) override {}
};

constexpr int kBelowAnyOther = -2;

#define REGISTER_MISSING(op, device)                                        \
  REGISTER_KERNEL_BUILDER(Name(op).Device(device).Priority(kBelowAnyOther), \
                          MissingXlaKernel)

REGISTER_MISSING("NegativeCosineLoss", "XLA_CPU_JIT");
REGISTER_MISSING("NegativeCosineLoss", "XLA_GPU_JIT");
REGISTER_MISSING("NegativeCosineLossGrad", "XLA_CPU_JIT");
REGISTER_MISSING("NegativeCosineLossGrad", "XLA_GPU_JIT");

}  // namespace
}  // namespace negative_cosine
