// The CUDA core as a Python module, with no TensorFlow: for tests, and for kernel work
// on a bare GPU machine.
#pragma once

#include <pybind11/pybind11.h>

namespace negative_cosine {

// negative_cosine_loss, prepare_step, device_info and copy_bandwidth.
void define_cuda_core(pybind11::module_& module);

}  // namespace negative_cosine
