#include "numpy/cuda_core.h"

#include <cuda_runtime.h>

#include "numpy/copy_bandwidth.h"
#include "numpy/device_info.h"
#include "numpy/device_run.h"
#include "numpy/prepared_step.h"

namespace negative_cosine {
namespace {

// Before anything else: CUDA's own message for a missing driver suggests no fix.
void require_kernels() { raise_unless_ok(cuda::check_device()); }

py::dict checked_device_info() {
  require_kernels();
  return device_info();
}

void run(LossParams params, const LossResults& results, int embedding_offset,
         bool allow_tf32, bool statistics) {
  require_kernels();
  params.allow_tf32 = allow_tf32;
  LossResults wanted = results;
  if (!statistics) wanted.leave_out_statistics();
  if (!wanted.with_gradient()) wanted.leave_out_direction();
  DeviceRun device(params, wanted, embedding_offset, nullptr);
  device.launch();
  device.copy_back();
}

double checked_copy_bandwidth(int64_t num_bytes, int rounds) {
  require(num_bytes >= 1 && rounds >= 1, "num_bytes and rounds must be at least 1");
  require_kernels();
  return copy_bandwidth(num_bytes, rounds);
}

void define_prepared_step(py::module_& module) {
  using namespace pybind11::literals;
  // Tests load a second module with this core, which has one of its own.
  py::class_<PreparedStep> step(module, "PreparedStep", py::module_local(),
                                "A step whose arrays stay on the device.");
  const auto make = [](const LossArguments& arguments, bool training, bool statistics,
                       bool allow_tf32) {
    require_kernels();
    return std::make_unique<PreparedStep>(arguments, training, statistics, allow_tf32);
  };
  define_with_loss_arguments<bool, bool, bool>(
      module, "prepare_step", "A PreparedStep of the loss, or of loss and gradients.",
      make, "training"_a = true, "statistics"_a = true, "allow_tf32"_a = false);
  step.def("launch", &PreparedStep::launch, "count"_a = 1, "how"_a = "plain",
           "Puts steps on the device, 'plain' or as a 'graph', and does not wait.");
  step.def("wait", &PreparedStep::wait, "Waits for all that was put there.");
  step.def("results", &PreparedStep::results, "What the last step computed, by name.");
  step.def("spoil_results", &PreparedStep::spoil_results,
           "Overwrites the results, so that what no launch writes is seen.");
  step.def("milliseconds", &PreparedStep::milliseconds, "samples"_a = 30, "steps"_a = 1,
           "how"_a = "plain", "flush_bytes"_a = 0,
           "Milliseconds a step of each sample, by CUDA events; flush_bytes other "
           "bytes are written before each.");
  step.def_property_readonly("bytes_beside_inputs", &PreparedStep::bytes_beside_inputs,
                             "Bytes of outputs, gradients and work memory.");
}

}  // namespace

void define_cuda_core(py::module_& module) {
  using namespace pybind11::literals;
  define_negative_cosine_loss<int, bool, bool>(module, run, "embedding_offset"_a = 0,
                                               "allow_tf32"_a = false,
                                               "statistics"_a = true);
  module.def("device_info", checked_device_info,
             "The device's name, size and versions.");
  module.def("copy_bandwidth", checked_copy_bandwidth, "num_bytes"_a, "rounds"_a = 10,
             "Bytes a second, read plus written, of copies within the device.");
  define_prepared_step(module);
}

}  // namespace negative_cosine
