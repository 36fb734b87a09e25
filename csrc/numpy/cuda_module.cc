#include "numpy/cuda_core.h"

PYBIND11_MODULE(_cuda_core, module) {
  module.doc() = "The negative_cosine CUDA core on NumPy arrays.";
  negative_cosine::define_cuda_core(module);
}
