// What only tests and benchmarks call: single points of the sampler's permutations, and
// the time that reading rows alone takes.
#pragma once

#include <pybind11/pybind11.h>

namespace negative_cosine {

// permute and read_rows.
void define_probes(pybind11::module_& module);

}  // namespace negative_cosine
