// The kernels of the planted_*.cu here by name.
#pragma once

#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace planted {

struct Arguments {
  const float* input;  // `count` numbers
  float* output;       // as many
  float* scratch;      // as many, never written before the kernel
  unsigned* ticket;    // zero before the kernel
  int count;
  int repeats;  // of what the timed kernels do
  bool wrong;   // whether to commit the fault that the kernel is named for
};

using Kernel = void (*)(Arguments);

struct Entry {
  const char* name;
  Kernel kernel;
};

// Those of planted_tile_faults.cu.
const std::vector<Entry>& tile_entries();
// Those of planted_barrier_faults.cu, planted_warpgroup_faults.cu and
// planted_warpgroup_products.cu.
const std::vector<Entry>& barrier_entries();
const std::vector<Entry>& warpgroup_entries();
const std::vector<Entry>& warpgroup_product_entries();

// Null where there is none.
Kernel kernel_named(const std::string& name);
std::vector<std::string> kernel_names();

}  // namespace planted
