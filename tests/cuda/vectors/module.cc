// The instructions of vectors.cu on NumPy arrays: `_vectors` for a device, and
// `_emulated_vectors` for the emulator, from the same sources.
#include <cuda_runtime.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#if __has_include("emulation/controls.h")  // of the emulator's build
#include "emulation/controls.h"
#endif
#include "numpy/device_info.h"
#include "numpy/sample_times.h"
#include "vectors.h"

namespace py = pybind11;

namespace vectors {
namespace {

using negative_cosine::DeviceCopies;
using negative_cosine::Graph;
using negative_cosine::raise_unless_successful;
using negative_cosine::sample_milliseconds;
using negative_cosine::Stream;

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const Instruction& instruction : instructions()) all.push_back(instruction.name);
  return all;
}

const Instruction& instruction_named(const std::string& name) {
  for (const Instruction& instruction : instructions()) {
    if (name == instruction.name) return instruction;
  }
  throw std::invalid_argument("there is no instruction " + name +
                              "; names() lists those that there are");
}

// How many threads the operands are for.
int64_t threads_of(const Instruction& instruction,
                   const std::vector<py::array>& operands) {
  const std::string name = instruction.name;
  require(operands.size() == instruction.operand_bytes.size(),
          name + " takes " + std::to_string(instruction.operand_bytes.size()) +
              " operands, got " + std::to_string(operands.size()));
  const int64_t threads = operands[0].nbytes() / instruction.operand_bytes[0];
  require(threads > 0 && threads % kThreadsOfWarp == 0,
          name + " takes whole warps of " + std::to_string(kThreadsOfWarp) +
              " threads, got operands for " + std::to_string(threads));
  for (size_t i = 0; i < operands.size(); ++i) {
    const int64_t bytes = threads * instruction.operand_bytes[i];
    require(operands[i].nbytes() == bytes,
            name + ": operand " + std::to_string(i) + " must have " +
                std::to_string(bytes) + " bytes, for " + std::to_string(threads) +
                " threads, got " + std::to_string(operands[i].nbytes()));
    require((operands[i].flags() & py::array::c_style) != 0,
            name + ": operand " + std::to_string(i) +
                " must be a C-contiguous array, got strides; use np.ascontiguousarray");
  }
  return threads;
}

// A row of bytes for each thread.
py::array_t<uint8_t> run(const std::string& name,
                         const std::vector<py::array>& operands) {
  const Instruction& instruction = instruction_named(name);
  const int64_t threads = threads_of(instruction, operands);
  negative_cosine::require_device();

  py::array_t<uint8_t> result({threads, instruction.result_bytes});
  Addresses addresses = {};
  DeviceCopies copies;
  for (size_t i = 0; i < operands.size(); ++i) {
    addresses.operands[i] = operands[i].data();
    copies.copy_in(&addresses.operands[i], operands[i].nbytes());
  }
  addresses.result = result.mutable_data();
  copies.make_result(&addresses.result, result.nbytes());
  raise_unless_successful(instruction.launch(addresses, threads / kThreadsOfWarp),
                          "launching " + name);
  raise_unless_successful(cudaDeviceSynchronize(), "running " + name);
  copies.copy_back();
  return result;
}

// Milliseconds a launch of a kernel that does nothing, in each sample: by itself, or
// among `launches` in a graph.
std::vector<double> launch_milliseconds(int samples, int launches, bool in_graph) {
  require(launches >= 1,
          "launches must be at least 1, got " + std::to_string(launches));
  negative_cosine::require_device();
  const Stream stream;
  const auto launch = [&] {
    raise_unless_successful(launch_nothing(stream.get()), "launching a kernel");
  };
  const auto nothing_before = [](int) {};
  launch();  // loads it, which no recording may do
  if (!in_graph) {
    return sample_milliseconds(stream.get(), samples, launches, nothing_before, launch);
  }
  const Graph graph(stream.get(), [&] {
    for (int i = 0; i < launches; ++i) launch();
  });
  std::vector<double> times = sample_milliseconds(
      stream.get(), samples, 1, nothing_before, [&] { graph.launch(stream.get()); });
  for (double& time : times) time /= launches;
  return times;
}

}  // namespace
}  // namespace vectors

// A macro's argument that is itself a macro: the build names the module.
#define NEGATIVE_COSINE_DEFINE(name, module) PYBIND11_MODULE(name, module)

NEGATIVE_COSINE_DEFINE(NEGATIVE_COSINE_VECTORS_MODULE, module) {
  using namespace pybind11::literals;
  module.doc() = "Instructions of a device on chosen operands.";
  module.def("names", &vectors::names, "The instructions that there are.");
  module.def("run", &vectors::run, "name"_a, "operands"_a,
             "What each thread gets of an instruction, as bytes.");
  module.def("launch_milliseconds", &vectors::launch_milliseconds, "samples"_a = 30,
             "launches"_a = 100, "in_graph"_a = false,
             "Milliseconds a launch of a kernel that does nothing, in each sample.");
  module.def("device_info", &negative_cosine::device_info,
             "The device's name and versions.");
#if __has_include("emulation/controls.h")
  emulator::define_controls(module);
#endif
}
