#include "numpy/cuda_core.h"

#include <cuda_runtime.h>

#include <algorithm>

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

// As many bytes as NumPy draws at random, over and over: hardware may be quicker
// with zeros.
void fill_with_random_bytes(const DeviceBuffer& buffer, int64_t num_bytes) {
  constexpr int64_t kDrawn = int64_t{1} << 24;
  const py::object random =
      py::module_::import("numpy").attr("random").attr("default_rng")(0);
  const std::string bytes =
      py::cast<std::string>(random.attr("bytes")(std::min(num_bytes, kDrawn)));
  const auto drawn = static_cast<int64_t>(bytes.size());
  for (int64_t start = 0; start < num_bytes; start += drawn) {
    const auto size = static_cast<size_t>(std::min(drawn, num_bytes - start));
    raise_unless_successful(
        cudaMemcpy(buffer.get() + start, bytes.data(), size, cudaMemcpyHostToDevice),
        "filling device memory");
  }
}

// Bytes read and written a second by copies within the device; the best round.
double copy_bandwidth(int64_t num_bytes, int rounds) {
  require(num_bytes >= 1 && rounds >= 1, "num_bytes and rounds must be at least 1");
  require_kernels();
  const DeviceBuffer from(num_bytes), to(num_bytes);
  fill_with_random_bytes(from, num_bytes);
  raise_unless_successful(cudaDeviceSynchronize(), "filling device memory");
  constexpr int kCopies = 20;
  const Stream stream;
  const Graph copies(stream.get(), [&] {
    for (int copy = 0; copy < kCopies; ++copy) {
      raise_unless_successful(
          cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(num_bytes),
                          cudaMemcpyDeviceToDevice, stream.get()),
          "copying on the device");
    }
  });
  const int warm_up = 1;
  const std::vector<double> times = sample_milliseconds(
      stream.get(), warm_up + rounds, 1, [](int) {},
      [&] { copies.launch(stream.get()); });
  const double best = *std::min_element(times.begin() + warm_up, times.end());
  return 2.0 * kCopies * static_cast<double>(num_bytes) / (1e-3 * best);
}

void define_prepared_step(py::module_& module) {
  using namespace pybind11::literals;
  // The emulated module in the same process has one of its own.
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
  module.def("copy_bandwidth", copy_bandwidth, "num_bytes"_a, "rounds"_a = 10,
             "Bytes a second, read plus written, of copies within the device.");
  define_prepared_step(module);
}

}  // namespace negative_cosine
