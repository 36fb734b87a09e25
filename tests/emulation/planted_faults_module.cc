// The planted faults, the emulator's settings and its conversions, for Python.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "controls.h"
#include "planted_faults.h"

namespace py = pybind11;

namespace planted {
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

void raise_unless_successful(cudaError_t error) {
  if (error == cudaSuccess) return;
  const std::string message =
      std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
  cudaGetLastError();
  throw std::runtime_error(message);
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t size) {
    raise_unless_successful(cudaMalloc(&address_, size));
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { cudaFree(address_); }

  template <typename T>
  T* as() const {
    return static_cast<T*>(address_);
  }

 private:
  void* address_ = nullptr;
};

Kernel known_kernel(const std::string& name) {
  const Kernel kernel = kernel_named(name);
  if (kernel == nullptr) throw std::invalid_argument("there is no kernel " + name);
  return kernel;
}

// The kernel's output, of which there is as much as of its input.
Floats run(const std::string& name, const Floats& input, bool wrong, unsigned blocks,
           unsigned threads, int repeats, size_t shared_bytes) {
  const Kernel kernel = known_kernel(name);
  const size_t size = static_cast<size_t>(input.nbytes());
  const DeviceBuffer device_input(size);
  const DeviceBuffer device_output(size);
  const DeviceBuffer device_scratch(size);
  const DeviceBuffer device_ticket(sizeof(unsigned));
  raise_unless_successful(
      cudaMemcpy(device_input.as<void>(), input.data(), size, cudaMemcpyHostToDevice));
  raise_unless_successful(cudaMemset(device_ticket.as<void>(), 0, sizeof(unsigned)));

  Arguments arguments;
  arguments.input = device_input.as<const float>();
  arguments.output = device_output.as<float>();
  arguments.scratch = device_scratch.as<float>();
  arguments.ticket = device_ticket.as<unsigned>();
  arguments.count = static_cast<int>(input.size());
  arguments.repeats = repeats;
  arguments.wrong = wrong;
  cudaLaunchConfig_t config;
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  raise_unless_successful(cudaLaunchKernelEx(&config, kernel, arguments));

  Floats output(input.size());
  raise_unless_successful(cudaMemcpy(output.mutable_data(), device_output.as<void>(),
                                     size, cudaMemcpyDeviceToHost));
  return output;
}

// Allocates so many bytes and frees them; raises what a caller of cudaMalloc would see.
void allocate(size_t size) { const DeviceBuffer buffer(size); }

void allow_shared_bytes(const std::string& name, int bytes) {
  raise_unless_successful(cudaFuncSetAttribute(
      known_kernel(name), cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

int device_attribute(int attribute) {
  int value = 0;
  raise_unless_successful(
      cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(attribute), 0));
  return value;
}

}  // namespace
}  // namespace planted

PYBIND11_MODULE(_planted_faults, module) {
  using namespace pybind11::literals;
  module.doc() = "Kernels with planted faults, run by the emulator";
  module.def("run", &planted::run, "kernel"_a, "input"_a, py::kw_only(),
             "wrong"_a = false, "blocks"_a = 1, "threads"_a = 32, "repeats"_a = 1,
             "shared_bytes"_a = 0);
  module.def("kernel_names", &planted::kernel_names);
  emulator::define_controls(module);
  module.def("allocate", &planted::allocate, "size"_a);
  module.def("allow_shared_bytes", &planted::allow_shared_bytes, "kernel"_a, "bytes"_a);
  module.def("device_attribute", &planted::device_attribute, "attribute"_a);
  module.def("half_to_float", py::vectorize([](uint16_t bits) {
               return __half2float(__ushort_as_half(bits));
             }));
  module.def("float_to_half", py::vectorize([](float value) {
               return __half_as_ushort(__float2half_rn(value));
             }));
  module.def("bfloat16_to_float", py::vectorize([](uint16_t bits) {
               return __bfloat162float(__ushort_as_bfloat16(bits));
             }));
  module.def("float_to_bfloat16", py::vectorize([](float value) {
               return __bfloat16_as_ushort(__float2bfloat16_rn(value));
             }));
}
