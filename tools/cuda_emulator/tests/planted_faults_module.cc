// The planted faults, the emulator's settings and its conversions, for Python.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "emulation/controls.h"
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

// A launch of a kernel whose output is as long as its input.
class Launch {
 public:
  Launch(const std::string& name, const Floats& input, bool wrong, unsigned blocks,
         unsigned threads, int repeats, size_t shared_bytes)
      : kernel_(known_kernel(name)),
        size_(static_cast<size_t>(input.nbytes())),
        input_(size_),
        output_(size_),
        scratch_(size_),
        ticket_(sizeof(unsigned)) {
    raise_unless_successful(
        cudaMemcpy(input_.as<void>(), input.data(), size_, cudaMemcpyHostToDevice));
    raise_unless_successful(cudaMemset(ticket_.as<void>(), 0, sizeof(unsigned)));
    arguments_.input = input_.as<const float>();
    arguments_.output = output_.as<float>();
    arguments_.scratch = scratch_.as<float>();
    arguments_.ticket = ticket_.as<unsigned>();
    arguments_.count = static_cast<int>(input.size());
    arguments_.repeats = repeats;
    arguments_.wrong = wrong;
    config_.gridDim = blocks;
    config_.blockDim = threads;
    config_.dynamicSmemBytes = shared_bytes;
  }

  void put_on(cudaStream_t stream) {
    config_.stream = stream;
    raise_unless_successful(cudaLaunchKernelEx(&config_, kernel_, arguments_));
  }

  Floats output() const {
    Floats output(arguments_.count);
    raise_unless_successful(cudaMemcpy(output.mutable_data(), output_.as<void>(), size_,
                                       cudaMemcpyDeviceToHost));
    return output;
  }

 private:
  Kernel kernel_;
  size_t size_;
  DeviceBuffer input_, output_, scratch_, ticket_;
  Arguments arguments_;
  cudaLaunchConfig_t config_;
};

// A stream that waits for no other.
class Stream {
 public:
  Stream() {
    raise_unless_successful(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// What `work` puts on a stream, recorded to be replayed.
class Graph {
 public:
  template <typename Work>
  Graph(cudaStream_t stream, const Work& work) {
    cudaGraph_t graph = nullptr;
    raise_unless_successful(
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      throw;
    }
    raise_unless_successful(cudaStreamEndCapture(stream, &graph));
    const cudaError_t error = cudaGraphInstantiateWithFlags(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    raise_unless_successful(error);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() { cudaGraphExecDestroy(graph_); }

  void launch(cudaStream_t stream) const {
    raise_unless_successful(cudaGraphLaunch(graph_, stream));
  }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

Floats run(const std::string& name, const Floats& input, bool wrong, unsigned blocks,
           unsigned threads, int repeats, size_t shared_bytes) {
  Launch launch(name, input, wrong, blocks, threads, repeats, shared_bytes);
  launch.put_on(nullptr);
  return launch.output();
}

// The output of a launch that is recorded once and replayed; with `wait` somebody waits
// for the device while it is recorded.
Floats replay(const std::string& name, const Floats& input, int replays, bool wait) {
  Launch launch(name, input, false, 2, 128, 1, 0);
  const Stream stream;
  const Graph graph(stream.get(), [&] {
    launch.put_on(stream.get());
    if (wait) raise_unless_successful(cudaDeviceSynchronize());
  });
  for (int i = 0; i < replays; ++i) graph.launch(stream.get());
  return launch.output();
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
  module.def("replay", &planted::replay, "kernel"_a, "input"_a, py::kw_only(),
             "replays"_a = 1, "wait"_a = false);
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
