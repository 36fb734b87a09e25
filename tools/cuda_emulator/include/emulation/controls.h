// The emulator's settings and counters, for Python.
#pragma once

#include <pybind11/pybind11.h>

namespace emulator {

void define_controls(pybind11::module_& module);

}  // namespace emulator
