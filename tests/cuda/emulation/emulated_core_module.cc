// The kernels of csrc/cuda, run by the emulator: the CUDA core's Python module with the
// emulator's controls beside it.
#include "cuda/passes.h"
#include "emulation/controls.h"
#include "emulation/emulator.h"
#include "numpy/cuda_core.h"

PYBIND11_MODULE(_emulated_core, module) {
  module.doc() = "The negative_cosine CUDA core, run by the emulator.";
  negative_cosine::define_cuda_core(module);
  emulator::define_controls(module);
  emulator::on_other_device(negative_cosine::cuda::forget_devices);
}
