// The custom calls of csrc/xla for the XLA of JAX, which ships XLA's public FFI header:
// so that they run under a real XLA with no TensorFlow.
#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "cpu/passes.h"
#include "cuda/passes.h"
#include "numpy/loss_arguments.h"
#include "xla/custom_calls.h"
#include "xla/handlers.h"

namespace negative_cosine {
namespace xla_calls {
namespace {

bool tf32_is_allowed = false;

}  // namespace

bool allows_tf32() { return tf32_is_allowed; }

namespace {

py::capsule capsule_of(XLA_FFI_Handler* handler) {
  return py::capsule(reinterpret_cast<void*>(handler), "xla._CUSTOM_CALL_TARGET");
}

[[maybe_unused]] void require_platform(const std::string& platform) {
  require(platform == "cpu" || platform == "CUDA",
          "platform must be 'cpu' or 'CUDA', got '" + platform + "'");
#if !NEGATIVE_COSINE_WITH_CUDA
  require(platform == "cpu", "this module was built without CUDA");
#endif
}

py::dict handlers(const std::string& platform) {
  require_platform(platform);
  py::dict found;
  if (platform == "cpu") {
    found[kForward] = capsule_of(negative_cosine_host_forward);
    found[kGradient] = capsule_of(negative_cosine_host_gradient);
  }
#if NEGATIVE_COSINE_WITH_CUDA
  if (platform == "CUDA") {
    found[kForward] = capsule_of(negative_cosine_cuda_forward);
    found[kGradient] = capsule_of(negative_cosine_cuda_gradient);
  }
#endif
  return found;
}

// Of the forward and of the gradient pass.
std::pair<int64_t, int64_t> scratch_bytes(const LossArguments& arguments,
                                          const std::string& platform) {
  require_platform(platform);
  const LossParams& params = arguments.params;
#if NEGATIVE_COSINE_WITH_CUDA
  if (platform == "CUDA") {
    return {cuda::forward_scratch_bytes(params), cuda::gradient_scratch_bytes(params)};
  }
#endif
  return {cpu::forward_scratch_bytes(params), cpu::gradient_scratch_bytes(params)};
}

}  // namespace
}  // namespace xla_calls
}  // namespace negative_cosine

PYBIND11_MODULE(_ffi_calls, module) {
  using namespace pybind11::literals;
  namespace calls = negative_cosine::xla_calls;
  module.doc() = "The custom calls of negative_cosine, for JAX.";
  module.def("handlers", &calls::handlers, "platform"_a,
             "Capsules by the calls' names, for jax.ffi.register_ffi_target.");
  module.def(
      "allow_tf32", [](bool allowed) { calls::tf32_is_allowed = allowed; }, "allowed"_a,
      "Whether a GPU may multiply float32 rows with ten bits of each element.");
  negative_cosine::define_with_loss_arguments<std::string>(
      module, "scratch_bytes", "Work memory of the forward and of the gradient pass.",
      calls::scratch_bytes, "platform"_a);
}
