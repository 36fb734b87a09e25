#include "emulation/controls.h"

#include <pybind11/stl.h>

#include "emulation/emulator.h"

namespace py = pybind11;

namespace emulator {
namespace {

py::list figures_of_launches() {
  py::list launches;
  for (const emulator::LaunchStatistics& launch : emulator::statistics()) {
    py::dict figures;
    figures["blocks"] = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    figures["threads"] = launch.threads;
    figures["shared_bytes"] = launch.shared_bytes;
    figures["bytes_read"] = launch.bytes_read;
    figures["bytes_written"] = launch.bytes_written;
    figures["sectors_read"] = launch.sectors_read;
    figures["sectors_written"] = launch.sectors_written;
    figures["reads_of_16_bytes"] = launch.reads_of_16_bytes;
    figures["reads_of_8_bytes"] = launch.reads_of_8_bytes;
    figures["reads_of_4_bytes"] = launch.reads_of_4_bytes;
    figures["atomics"] = launch.atomics;
    figures["shared_wavefronts"] = launch.shared_wavefronts;
    figures["packet_wavefronts"] = launch.packet_wavefronts;
    figures["bank_conflicts"] = launch.bank_conflicts;
    launches.append(figures);
  }
  return launches;
}

void set_at_least_one_multiprocessor(int count) {
  if (count < 1) throw py::value_error("a device has at least one multiprocessor");
  set_multiprocessors(count);
}

}  // namespace

void define_controls(py::module_& module) {
  using namespace pybind11::literals;
  module.def("set_schedule", &set_schedule, "seed"_a);
  module.def("count_traffic", &count_traffic, "on"_a);
  module.def("reset_statistics", &reset_statistics);
  module.def("statistics", &figures_of_launches);
  module.def("api_calls", &api_calls);
  module.def("set_memory_limit", &set_memory_limit, "bytes"_a);
  module.def("set_capability", &set_capability, "major"_a, "minor"_a);
  module.def("set_multiprocessors", &set_at_least_one_multiprocessor,
             "count"_a = kUsualMultiprocessors);
  module.def("truncate_products", &truncate_products, "on"_a);
  module.def("set_code_version", &set_code_version, "version"_a);
  module.def("set_driver_version", &set_driver_version, "version"_a);
}

}  // namespace emulator
